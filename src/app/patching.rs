//! PATCH of a session: candidates, which are of no use to us, and ICE restarts, which the shards are told.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::{App, Inner, credentials, lock, sdp_refusal};
use crate::http::operation::Operation as _;
use crate::http::service::{Patch, Patched, Refusal, Service as _};
use onecast_control::SessionId;
use onecast_control::ice_session::{self, Condition, PatchRefused, entity_tag};
use onecast_engine::fanout::{Command, Restart};
use onecast_rtc::IceCredentials;
use onecast_rtc::sdp::{Fragment, FragmentParams};
use onecast_udp::clock;

impl App {
    /// Does what `PATCH` of a session asks for.
    pub(super) fn take_patch(&self, patch: Patch<'_>) -> Result<Patched, Refusal> {
        if !self.exists(patch.session, patch.protocol) {
            return Err(Refusal::gone(self.why_ended(patch.session)));
        }
        // As an ICE-lite agent we send no checks, so the client's candidates are of no use to us: its checks tell its addresses.
        let fragment = Fragment::parse(patch.fragment).map_err(|error| sdp_refusal(&error))?;
        let inner = &self.inner;
        let asked = ice_session::Patch {
            session: patch.session,
            condition: patch.condition,
            fragment: &fragment,
        };
        let tell = |restart: &Arc<Restart>| inner.broadcast(&Command::Restart(restart.clone()));
        let patched = lock(&inner.registry).patch(clock::now(), asked, credentials, tell);
        Ok(match patched.map_err(patch_refusal)? {
            ice_session::Patched::Trickled => Patched::Trickled,
            ice_session::Patched::Restarted(restart) => {
                debug!(client = %patch.client, "ICE restart answered");
                let local = &restart.ice.local;
                let params = FragmentParams {
                    ice: local,
                    candidates: &self.candidates(patch.local, patch.client),
                    line: fragment.line.as_ref(),
                };
                Patched::Restarted {
                    tag: entity_tag(local).into(),
                    fragment: params.write(),
                }
            }
        })
    }
}

impl Inner {
    /// An ICE restart that an offer asks for, with both sides' new credentials.
    pub(super) fn restart_ice(
        &self,
        now: Instant,
        session: SessionId,
        theirs: &IceCredentials,
        ours: &IceCredentials,
    ) -> Result<(), PatchRefused> {
        let fragment = Fragment {
            ufrag: Some(theirs.ufrag.clone()),
            pwd: Some(theirs.pwd.clone()),
            candidates: 0,
            line: None,
        };
        let asked = ice_session::Patch {
            session,
            condition: &Condition::Any,
            fragment: &fragment,
        };
        let tell = |restart: &Arc<Restart>| self.broadcast(&Command::Restart(restart.clone()));
        match lock(&self.registry).patch(now, asked, || ours.clone(), tell)? {
            ice_session::Patched::Restarted(_) => Ok(()),
            // It has been done already, with other credentials of ours.
            ice_session::Patched::Trickled => Err(PatchRefused::Stale),
        }
    }
}

pub(super) fn patch_refusal(refused: PatchRefused) -> Refusal {
    match refused {
        PatchRefused::UnknownSession => Refusal::UnknownSession,
        PatchRefused::Stale => Refusal::Stale,
        PatchRefused::Unconditional => Refusal::Unconditional,
        PatchRefused::HalfRestart => Refusal::HalfRestart,
        PatchRefused::TooSoon => Refusal::RestartTooSoon,
        PatchRefused::Overloaded => Refusal::Overloaded,
    }
}
