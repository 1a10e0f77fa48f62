//! Viewers choose among the layers of their stream.

use onecast_engine::fanout::Command;
use onecast_engine::media::{LayerIndex, LayerReason};
use onecast_rtc::SessionId;

use super::{Control, Now};
use crate::layers::LayerChoice;
use crate::refusal::Refusal;
use crate::registry::Purpose;

impl Control {
    /// A viewer chooses which layers it is sent. The choice counts until the next one, and for every later publisher of the stream that has
    /// a layer of that name.
    ///
    /// # Errors
    /// When there is no such viewer, the stream has no such layer, the viewer chooses too often, or a shard has no room for the command;
    /// then nothing has changed.
    pub fn handle_choose_layer(&mut self, now: Now, id: SessionId, choice: &LayerChoice) -> Result<(), Refusal> {
        if self.registry.purpose(id) != Some(Purpose::Watch) {
            return Err(self.gone(id));
        }
        self.check_shards()?;
        if let Some((session, plan)) = self.registry.choose_layer(now.instant, id, choice)? {
            self.command(Command::Plan(session, plan));
        }
        Ok(())
    }

    pub(super) fn layer_sent(&mut self, id: SessionId, layer: LayerIndex, reason: LayerReason) {
        // A member of a room is sent many streams.
        if self.registry.purpose(id) == Some(Purpose::Watch) {
            self.registry.set_layer(id, layer, reason);
        }
    }

    /// Once a second: the layers that followers know, and what viewers have chosen.
    pub(super) fn refresh_layers(&mut self, now: Now) {
        for stream in self.events.followed() {
            self.announce(now, &stream);
        }
        if !self.shards_busy {
            for (session, plan) in self.registry.renew_limits() {
                self.command(Command::Plan(session, plan));
            }
        }
    }
}
