//! The permissions of a token.

use super::{Action, Credential, Denied, StreamPatterns};
use onecast_control::StreamName;

/// The permissions of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// A client with the same credential takes over its own stream.
    pub credential: Credential,
    /// Streams that it may publish.
    pub publish: StreamPatterns,
    /// Streams that it may watch.
    pub watch: StreamPatterns,
    /// Whether it may administer the server.
    pub admin: bool,
}

impl Permissions {
    /// Checks that they include `action`.
    ///
    /// # Errors
    /// With the missing permission.
    pub fn check(&self, action: Action, stream: Option<&StreamName>) -> Result<(), Denied> {
        let includes = |rooms: &StreamPatterns| stream.is_some_and(|stream| rooms.has(stream));
        let of_stream = || stream.map(|stream| format!(" the stream {stream}")).unwrap_or_default();
        let (allowed, denial) = match action {
            Action::Publish => (
                includes(&self.publish),
                format!("this token does not allow publishing{}", of_stream()),
            ),
            Action::Watch => (
                includes(&self.watch),
                format!("this token does not allow watching{}", of_stream()),
            ),
            Action::Administer => (self.admin, "this token does not allow administration".to_owned()),
        };
        if allowed {
            Ok(())
        } else {
            Err(Denied::Forbidden(denial))
        }
    }

    /// The streams that the token makes visible.
    pub(super) fn visible(&self) -> StreamPatterns {
        if self.admin {
            StreamPatterns::all()
        } else {
            self.publish.and(&self.watch)
        }
    }
}
