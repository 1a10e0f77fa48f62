//! `onecast peer`: one or more members of a conference room.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::member::{Member, MemberConfig, MemberReport, Signalling};
use super::output::Output;
use crate::client_args::ClientArgs;
use crate::peer::PeerError;
use crate::publish::fail;
use crate::source::{self, Source};
use crate::trust::Trust;
use onecast_rtc::rtp::Kind;

/// Options of `onecast peer`.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerArgs {
    /// The server
    #[arg(
        long,
        value_name = "URL",
        env = "ONECAST_PEER_TO",
        default_value = "http://127.0.0.1:8080"
    )]
    pub to: String,

    /// The room to join
    #[arg(long, value_name = "NAME", env = "ONECAST_ROOM", default_value = "main")]
    pub room: String,

    /// Display name of this member; several members are numbered
    #[arg(long, value_name = "NAME", env = "ONECAST_NAME")]
    pub name: Option<String>,

    /// Number of members to join as, each with its own picture and tone; 1 to 100
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub count: u32,

    /// Use a WebSocket, which also reports members that join and leave
    #[arg(long, conflicts_with = "poll")]
    pub ws: bool,

    /// Poll for offers at this interval, such as 500ms [default: long polling]
    #[arg(long, value_name = "TIME", value_parser = crate::values::duration)]
    pub poll: Option<Duration>,

    /// Receive the video of at most this many members, those who spoke last [default: set by the server]
    #[arg(long, value_name = "N")]
    pub last_n: Option<u32>,

    /// Send no video
    #[arg(long)]
    pub no_video: bool,

    /// Send no audio
    #[arg(long)]
    pub no_audio: bool,

    /// Options of all clients.
    #[command(flatten)]
    pub client: ClientArgs,
}

impl PeerArgs {
    fn signalling(&self) -> Signalling {
        match self.poll {
            _ if self.ws => Signalling::Socket,
            Some(pause) => Signalling::Poll(pause.max(POLL_MIN)),
            None => Signalling::LongPoll,
        }
    }

    /// Test card and tone, unless disabled.
    fn sources(&self) -> Vec<Box<dyn Source>> {
        let all = source::open(&["test".to_owned()], true).expect("the test card needs no file");
        let is_wanted = |kind| match kind {
            Kind::Video => !self.no_video,
            Kind::Audio => !self.no_audio,
        };
        all.into_iter()
            .filter(|source| is_wanted(source.codec().kind()))
            .collect()
    }

    /// Member `number`, counted from 1.
    fn config(&self, number: u32, trust: &Trust, output: &Output) -> MemberConfig {
        let output = output.clone();
        let name = self.name.as_ref().map(|name| match self.count {
            1 => name.clone(),
            _ => format!("{name} {number}"),
        });
        MemberConfig {
            to: self.to.clone(),
            room: self.room.clone(),
            name,
            last_n: self.last_n,
            signalling: self.signalling(),
            sources: self.sources(),
            token: self.client.token.clone(),
            trust: trust.clone(),
            retries_when_busy: true,
            on_event: Arc::new(move |event| output.event(&event)),
        }
    }
}

/// Runs the command. Returns the exit code: 1 when a member could not join or was ended early.
pub async fn run(args: PeerArgs) -> u8 {
    let trust = match args.client.trust.trust() {
        Ok(trust) => trust,
        Err(error) => return fail(&error, 2),
    };
    let (args, leave) = (Arc::new(args), CancellationToken::new());
    let mut peers = JoinSet::new();
    for number in 1..=args.count {
        peers.spawn(one(args.clone(), number, trust.clone(), leave.clone()));
    }
    let ended = peers.join_all();
    tokio::pin!(ended);
    let codes = tokio::select! {
        codes = &mut ended => codes,
        () = args.client.time_is_up() => {
            leave.cancel();
            ended.await
        }
        _ = tokio::signal::ctrl_c() => {
            leave.cancel();
            ended.await
        }
    };
    codes.into_iter().max().unwrap_or(0)
}

/// One member, from joining to leaving. It rejoins if the server has dropped it while its WebSocket was broken.
async fn one(args: Arc<PeerArgs>, number: u32, trust: Trust, leave: CancellationToken) -> u8 {
    let output = Output::new(args.client.json, (args.count > 1).then_some(number), &args.room);
    loop {
        let joined = leave
            .run_until_cancelled(Member::join(args.config(number, &trust, &output)))
            .await;
        let mut member = match joined {
            None => return 0,
            Some(Ok(member)) => member,
            Some(Err(error)) => {
                output.trouble(&error);
                return 1;
            }
        };
        let ended = stay(&mut member, &leave, &output).await;
        let report = member.leave().await;
        output.end(&report);
        match ended {
            None => return 0,
            Some(PeerError::Forgotten) => output.note(
                "joining-anew",
                "the server does not know this member any more; joining again",
            ),
            Some(error) => {
                output.trouble(&error);
                return 1;
            }
        }
    }
}

/// Waits until it is time to leave, or the session ends; returns why it ended.
async fn stay(member: &mut Member, leave: &CancellationToken, output: &Output) -> Option<PeerError> {
    let mut before: Option<MemberReport> = None;
    let mut beat = tokio::time::interval(PROGRESS);
    beat.tick().await;
    loop {
        tokio::select! {
            () = leave.cancelled() => return None,
            error = member.ended() => return Some(error),
            _ = beat.tick() => {
                let now = member.report();
                output.progress(&now, before.as_ref());
                before = Some(now);
            }
        }
    }
}

/// Time between progress lines.
const PROGRESS: Duration = Duration::from_secs(5);
/// The shortest polling interval.
const POLL_MIN: Duration = Duration::from_millis(20);
