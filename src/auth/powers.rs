//! What a token is good for.

use super::{Action, Credential, Denied, Rooms};
use onecast_control::StreamName;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Powers {
    /// Who shows the same takes over their own stream.
    pub credential: Credential,
    /// Streams that may be published.
    pub publish: Rooms,
    /// Streams that may be watched.
    pub watch: Rooms,
    /// Whether the server may be administered.
    pub admin: bool,
}

impl Powers {
    /// Whether they suffice.
    ///
    /// # Errors
    /// When they do not, with what the token is not good for.
    pub fn suffice(&self, action: Action, stream: Option<&StreamName>) -> Result<(), Denied> {
        let among = |rooms: &Rooms| stream.is_some_and(|stream| rooms.has(stream));
        let of_stream = || stream.map(|stream| format!(" the stream {stream}")).unwrap_or_default();
        let (enough, lacking) = match action {
            Action::Publish => (
                among(&self.publish),
                format!("this token is not for publishing{}", of_stream()),
            ),
            Action::Watch => (
                among(&self.watch),
                format!("this token is not for watching{}", of_stream()),
            ),
            Action::Administer => (self.admin, "this token is not for administration".to_owned()),
        };
        if enough {
            Ok(())
        } else {
            Err(Denied::Forbidden(lacking))
        }
    }

    /// The streams that the token lets see.
    pub(super) fn visible(&self) -> Rooms {
        if self.admin {
            Rooms::all()
        } else {
            self.publish.and(&self.watch)
        }
    }
}
