//! `onecast peer`: members of a conference room that send the test card and a tone, and receive the other members.
//!
//! ```text
//! command      command line                     member       joins, receives, leaves
//! session      signalling of one member         negotiation  what to do with offers, answers and refusals
//! http_client  /offer, /renegotiate, ..         web_socket   the same over one WebSocket
//! messages     of the protocol                  sdp_fixes    corrections of the library's answers
//! received     tracks and their counts          output       what is printed
//! ```

mod command;
mod http_client;
mod member;
mod messages;
mod negotiation;
mod output;
mod received;
#[cfg(test)]
mod renegotiation;
mod sdp_fixes;
mod session;
mod web_socket;

pub use command::{PeerArgs, run};
pub use member::{Member, MemberConfig, MemberEvent, MemberReport, OnEvent, Signalling};
pub use received::ReceivedTrack;
