//! `onecast peer`: members of a conference room that send the test card and a tone, and receive everybody else.
//!
//! ```text
//! command  options                         member    a member of a room: joins, follows, leaves
//! door     HTTP: /offer, /renegotiate, ..  socket    the same over one WebSocket
//! talk     the conversation                words     the messages
//! course   what to do with each message    output    what is printed
//! received tracks and their counts         lines     what the library's answers lack
//! ```

mod command;
mod course;
mod door;
mod lines;
mod member;
mod output;
mod received;
#[cfg(test)]
mod renegotiation;
mod socket;
mod talk;
mod words;

pub use command::{PeerArgs, run};
pub use member::{Member, MemberConfig, MemberEvent, MemberReport, OnEvent, Signalling};
pub use received::ReceivedTrack;
