//! Runs one session: passes it what its neighbors say, and passes on what it says to them.
//!
//! **Invariants**
//! - This task waits in one place only, for the next input, and never for a neighbor to accept a
//!   message.
//! - A neighbor is heard only while the one that its words are for has room for them: a slow
//!   provider slows the client down, and the other way round, and nothing piles up here.
//! - Whoever listens beside the client slows nobody down, and ends nothing by going.

mod links;
mod observer;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::latency::{Recorder, Traces};
use crate::core::port::{
    CloseReason, Device, Fault, FromClient, FromIssuer, FromTools, ToClient, ToIssuer, ToTools,
    ToVoice,
};
use crate::core::session::{Effect, Input, Loss, Neighbor, Session, Snapshot};
use crate::core::tally::Ledger;
use crate::driver::links::Links;

pub use links::{Dialer, Dialing, VoiceLine};

pub use crate::driver::observer::{Observer, Seen, View};

/// What one input can make the session say to a neighbor, at the most, before it is asked to
/// make room. A queue must be longer than this.
pub const ROOM: usize = 16;

/// How many may listen beside the client of a session.
pub const SIDEBANDS: usize = 4;

/// How long the queue to one who listens beside the client should be: nobody waits for it.
pub const SIDEBAND_QUEUE: usize = 1024;

/// The two queues between a session and one neighbor.
pub struct Line<Out, In> {
    pub outbox: mpsc::Sender<Out>,
    pub inbox: mpsc::Receiver<In>,
}

/// The queues between a session and its neighbors.
pub struct Lines {
    /// Absent where the provider carries the call's sound itself, until a client joins.
    pub client: Option<ClientLine>,
    /// The first link; absent where one is dialed for a session that is begun again.
    pub voice: Option<VoiceLine>,
    /// For the links that follow.
    pub dialer: Dialer,
    /// Those who come while the session runs.
    pub arrivals: mpsc::Receiver<Arrival>,
    /// Who carries out the relay's own tools.
    pub tools: Tools,
    /// Keeps what the session is to be begun again from.
    pub keeper: Keeper,
    /// Where finished turns are put.
    pub traces: Traces,
    /// Shows the session to others.
    pub observer: Observer,
}

/// The queues between a session and a leg.
pub type ClientLine = Line<ToClient, FromClient>;

/// Somebody comes to a session that runs.
pub enum Arrival {
    /// Takes the place of the session's client, who may still be there, with its first word that
    /// is not sound: until then its connection may not be open.
    Client(ClientLine, Device),
    /// Joins beside it: sees the same events, and may send some. At most [`SIDEBANDS`] do.
    Sideband(ClientLine),
}

/// Who issues the session's credentials. Answers at once: it computes, and waits for nothing.
pub type Issuer = Box<dyn FnMut(ToIssuer) -> FromIssuer + Send>;

/// Who carries out the relay's own tools. Every call has an output within a bounded time.
pub type Tools = Box<dyn Fn(ToTools) -> Running + Send>;

/// A tool at work.
pub type Running = Pin<Box<dyn Future<Output = FromTools> + Send>>;

/// For sessions that have no tools.
pub fn no_tools() -> Tools {
    Box::new(|ToTools::Call { call, .. }| {
        let output = "{\"error\":\"unavailable\"}".into();
        Box::pin(std::future::ready(FromTools::Output { call, output }))
    })
}

/// Who keeps a session's snapshots: at once, in memory, or not at all.
pub type Keeper = Box<dyn FnMut(Snapshot) + Send>;

/// What tells a session to end.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The relay is shutting down: come to an end.
    pub shutdown: CancellationToken,
    /// The operator has revoked it: say so, and end.
    pub revoked: CancellationToken,
    /// End now: it was hung up, or the time for coming to an end is over.
    pub cancel: CancellationToken,
}

/// Runs `session` until it closes.
pub async fn run(
    mut session: Session,
    lines: Lines,
    mut issuer: Issuer,
    recorder: Recorder,
    ledger: Ledger,
    signals: Signals,
) -> CloseReason {
    let Lines {
        client,
        voice,
        dialer,
        mut arrivals,
        tools,
        mut keeper,
        traces,
        mut observer,
    } = lines;
    let mut links = Links::new(voice, dialer);
    // They end with the session, whose model they answer.
    let mut running = JoinSet::new();
    let mut audience = Audience {
        client,
        newcomer: None,
        sidebands: vec![],
    };
    let mut shutting_down = false;
    let reason = 'session: loop {
        while let Some(effect) = session.poll_effect() {
            observer.say(&effect, &session, clock::now());
            let consequence = match effect {
                Effect::Everyone(message) => {
                    audience.tell_sidebands(&message);
                    audience.tell_client(message)
                }
                Effect::Client(message) => audience.tell_client(message),
                Effect::Sidebands(message) => {
                    audience.tell_sidebands(&message);
                    None
                }
                Effect::Voice(message) => links.say(message),
                Effect::Next(message) => {
                    links.say_next(message);
                    None
                }
                Effect::Switch => {
                    links.switch();
                    None
                }
                Effect::HangUp => {
                    links.hang_up();
                    None
                }
                Effect::Dialer(question) => {
                    links.ask(question);
                    None
                }
                Effect::Tool(call) => {
                    running.spawn(tools(call));
                    None
                }
                Effect::Issuer(question) => Some(Input::Issuer(issuer(question))),
                Effect::Record(sample) => {
                    recorder(sample);
                    None
                }
                Effect::Turn(trace) => {
                    traces(&trace);
                    None
                }
                Effect::Count(tally) => {
                    ledger(tally);
                    None
                }
                Effect::Save(snapshot) => {
                    keeper(*snapshot);
                    None
                }
                Effect::Close(reason) => break 'session reason,
            };
            if let Some(input) = consequence {
                let now = clock::now();
                observer.hear(&input, now);
                session.handle(input, now);
            }
        }

        let onward = audience.client.as_ref().map(|line| line.outbox.clone());
        let upward = links.outbox();
        let input = tokio::select! {
            biased;
            () = signals.cancel.cancelled() => Input::HungUp,
            () = signals.revoked.cancelled() => Input::Revoked,
            () = signals.shutdown.cancelled(), if !shutting_down => {
                shutting_down = true;
                Input::Shutdown
            }
            () = clock::sleep_until(session.poll_timeout()) => {
                observer.tick();
                session.handle_timeout(clock::now());
                continue;
            }
            question = observer.asked() => {
                // Whoever has asked may have gone again.
                let _ = question.send(session.facts(clock::now()));
                continue;
            }
            Some(output) = running.join_next() => match output {
                Ok(output) => Input::Tool(output),
                // Whoever panicked has said so.
                Err(_) => continue,
            },
            Some(arrival) = arrivals.recv() => {
                match arrival {
                    Arrival::Client(line, device) => audience.newcomer = Some((line, device)),
                    Arrival::Sideband(line) => audience.join(line, session.introduction()),
                }
                continue;
            }
            input = links.hear(onward.as_ref()) => input,
            heard = audience.hear(upward.as_ref()) => match audience.admit(heard) {
                Some(Admitted::Said(message)) => Input::Client(message),
                Some(Admitted::Left) => Input::Lost(Neighbor::Client, Loss::Gone),
                Some(Admitted::Attached(device, first)) => {
                    let now = clock::now();
                    let attached = Input::Attached(device);
                    observer.hear(&attached, now);
                    session.handle(attached, now);
                    Input::Client(first)
                }
                None => continue,
            },
        };
        let now = clock::now();
        observer.hear(&input, now);
        session.handle(input, now);
    };
    drop(audience);
    links.close().await;

    reason
}

/// All who listen to a session.
struct Audience {
    client: Option<ClientLine>,
    /// Comes to take the client's place.
    newcomer: Option<(ClientLine, Device)>,
    sidebands: Vec<ClientLine>,
}

/// Who has said something, or left.
#[derive(Clone, Copy)]
enum Listener {
    Client,
    Newcomer,
    Sideband(usize),
}

/// What that means for the session.
enum Admitted {
    Said(FromClient),
    /// The client has gone.
    Left,
    /// The newcomer is there now, and says this.
    Attached(Device, FromClient),
}

impl Audience {
    fn tell_client(&mut self, message: ToClient) -> Option<Input> {
        let loss = self.client.as_ref()?.send(message)?;
        let mut client = self.client.take()?;
        let hung_up = std::iter::from_fn(|| client.inbox.try_recv().ok())
            .any(|last| last == FromClient::Hangup);

        Some(if hung_up && self.newcomer.is_none() {
            Input::Client(FromClient::Hangup)
        } else {
            Input::Lost(Neighbor::Client, loss)
        })
    }

    fn tell_sidebands(&mut self, message: &ToClient) {
        self.sidebands
            .retain(|line| line.send(message.clone()).is_none());
    }

    fn join(&mut self, line: ClientLine, introduction: Vec<ToClient>) {
        // Whoever does not even take this has left again.
        if self.sidebands.len() == SIDEBANDS {
            line.send(ToClient::Fault(crowded()));
            line.send(ToClient::Close(CloseReason::Crowded));
        } else if introduction
            .into_iter()
            .all(|message| line.send(message).is_none())
        {
            self.sidebands.push(line);
        }
    }

    /// Waits for a word of anyone's, and for room to pass it on.
    async fn hear(
        &mut self,
        onward: Option<&mpsc::Sender<ToVoice>>,
    ) -> (Listener, Option<FromClient>) {
        if let Some(onward) = onward {
            make_room(onward).await;
        }

        poll_fn(|cx| {
            let client = self.client.iter_mut().map(|line| (Listener::Client, line));
            let newcomer = self.newcomer.iter_mut();
            let newcomer = newcomer.map(|(line, _)| (Listener::Newcomer, line));
            let sidebands = self.sidebands.iter_mut().enumerate();
            let sidebands = sidebands.map(|(index, line)| (Listener::Sideband(index), line));
            for (listener, line) in client.chain(newcomer).chain(sidebands) {
                if let Poll::Ready(message) = line.inbox.poll_recv(cx) {
                    return Poll::Ready((listener, message));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Returns what the session needs to know of it.
    fn admit(&mut self, (listener, message): (Listener, Option<FromClient>)) -> Option<Admitted> {
        match (listener, message) {
            // Who is on the way back has not hung up.
            (Listener::Client, Some(FromClient::Hangup)) if self.newcomer.is_some() => {
                self.client = None;
                Some(Admitted::Left)
            }
            (Listener::Client, Some(message)) => Some(Admitted::Said(message)),
            (Listener::Client, None) => {
                self.client = None;
                Some(Admitted::Left)
            }
            (
                Listener::Newcomer,
                Some(
                    FromClient::Audio { .. }
                    | FromClient::Played(_)
                    | FromClient::Alive { .. }
                    | FromClient::Network(_)
                    | FromClient::Ways(_)
                    | FromClient::Stats(_)
                    | FromClient::Sent { .. }
                    | FromClient::Speech(_),
                ),
            ) => None,
            (Listener::Newcomer, None | Some(FromClient::Hangup)) => {
                self.newcomer = None;
                None
            }
            (Listener::Newcomer, Some(first)) => {
                let (line, device) = self.newcomer.take()?;
                if let Some(before) = self.client.replace(line) {
                    before.send(ToClient::Close(CloseReason::Replaced));
                }
                Some(Admitted::Attached(device, first))
            }
            (
                Listener::Sideband(_),
                Some(
                    message @ (FromClient::Event(..)
                    | FromClient::Truncate { .. }
                    | FromClient::ClearOutput),
                ),
            ) => Some(Admitted::Said(message)),
            (Listener::Sideband(index), Some(FromClient::Rejected(fault))) => {
                self.sidebands[index].send(ToClient::Fault(fault));
                None
            }
            (Listener::Sideband(index), None | Some(FromClient::Hangup)) => {
                self.sidebands.swap_remove(index);
                None
            }
            // What concerns a client's own sound, or its own credentials.
            (
                Listener::Sideband(_),
                Some(
                    FromClient::Audio { .. }
                    | FromClient::Played(_)
                    | FromClient::Network(_)
                    | FromClient::Ways(_)
                    | FromClient::Stats(_)
                    | FromClient::Sent { .. }
                    | FromClient::Speech(_)
                    | FromClient::Ready
                    | FromClient::Extended
                    | FromClient::Acknowledged { .. }
                    | FromClient::Heard(_)
                    | FromClient::Away
                    | FromClient::Alive { .. }
                    | FromClient::TokenAcknowledged(_)
                    | FromClient::TokenPresented(_),
                ),
            ) => None,
        }
    }
}

async fn make_room<Out>(onward: &mpsc::Sender<Out>) {
    // If the way on is closed there is nothing to wait for: the session will be told.
    drop(onward.reserve_many(ROOM).await);
}

impl<Out, In> Line<Out, In> {
    fn send(&self, message: Out) -> Option<Loss> {
        match self.outbox.try_send(message) {
            Ok(()) => None,
            Err(mpsc::error::TrySendError::Full(_)) => Some(Loss::Overrun),
            Err(mpsc::error::TrySendError::Closed(_)) => Some(Loss::Gone),
        }
    }
}

fn crowded() -> Fault {
    Fault::invalid(
        "too_many_sidebands",
        format!("{SIDEBANDS} connections listen to this call already; close one of them."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::latency::Transport;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::core::audio::Format;
    use crate::core::playout::PlayoutConfig;
    use crate::core::port::{ClientEvent, FromVoice, Json, Notice, ToVoice, VoiceSession};
    use crate::core::session::{Playback, SessionConfig};

    const QUEUE: usize = 64;

    #[tokio::test(start_paused = true)]
    async fn who_listens_beside_is_introduced_and_hears_what_is_for_all() {
        let mut call = Call::start();
        call.extend().await;
        let mut beside = call.join().await;
        let told = [beside.hear().await, beside.hear().await];
        assert!(matches!(
            told,
            [ToClient::Created { .. }, ToClient::Notice(Notice::State(_))]
        ));

        call.provide("answer").await;
        assert_eq!(beside.hear().await, event("answer"));
        beside.say(told_by_client("question")).await;
        assert_eq!(call.at_provider().await, ToVoice::Event("question".into()));

        beside.say(FromClient::Hangup).await;
        call.provide("more").await;
        assert_eq!(call.client.hear_event().await, "answer");
        assert_eq!(call.client.hear_event().await, "more");
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_beside_is_told_so() {
        let mut call = Call::start();
        call.client.hear_event().await;
        let mut beside = vec![];
        for _ in 0..SIDEBANDS {
            beside.push(call.join().await);
        }

        let mut last = call.join().await;

        let told = last.hear().await;
        assert!(
            matches!(&told, ToClient::Fault(fault) if fault.code == "too_many_sidebands"),
            "{told:?}"
        );
        assert_eq!(last.hear().await, ToClient::Close(CloseReason::Crowded));
        call.provide("answer").await;
        for listener in &mut beside {
            assert_eq!(listener.hear_event().await, "answer");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_beside_who_does_not_listen_is_dropped_and_nobody_waits() {
        let mut call = Call::start();
        call.client.hear_event().await;
        let beside = call.join().await;
        for index in 0..2 * QUEUE {
            call.provide(&index.to_string()).await;
            assert_eq!(call.client.hear_event().await, index.to_string());
        }

        beside.outbox.closed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_with_its_first_word_that_is_not_sound() {
        let mut call = Call::start();
        call.extend().await;
        let mut newcomer = call.come().await;
        newcomer
            .say(FromClient::Audio {
                payload: vec![0; 960].into(),
                received: clock::now(),
            })
            .await;
        call.provide("to the old one").await;
        assert_eq!(call.client.hear_event().await, "to the old one");

        newcomer.say(FromClient::Ready).await;

        assert!(matches!(newcomer.hear().await, ToClient::Created { .. }));
        let last = call.client.hear().await;
        assert_eq!(last, ToClient::Close(CloseReason::Replaced));
        call.provide("to the new one").await;
        assert_eq!(newcomer.hear_event().await, "to the new one");
    }

    #[tokio::test(start_paused = true)]
    async fn who_closes_a_connection_with_the_next_on_its_way_has_not_hung_up() {
        let mut call = Call::start();
        call.extend().await;
        let mut newcomer = call.come().await;
        call.client.say(FromClient::Hangup).await;
        call.client.outbox.closed().await;
        call.provide("meanwhile").await;
        tokio::time::sleep(Duration::from_secs(1)).await;

        newcomer.say(FromClient::Extended).await;

        assert!(matches!(newcomer.hear().await, ToClient::Created { .. }));
        let state = newcomer.hear().await;
        assert!(matches!(state, ToClient::Notice(Notice::State(_))));
        let missed = newcomer.hear().await;
        assert_eq!(missed, ToClient::Missed(vec![event("meanwhile")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_client_is_waited_for_as_long_as_it_was_told() {
        let mut call = Call::start();
        call.extend().await;
        let lost = clock::now();
        drop(call.client);

        let reason = call.driver.join_next().await.unwrap().unwrap();

        assert_eq!(reason, CloseReason::Hangup);
        assert_eq!(clock::now() - lost, Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_goodbye_is_heard_before_the_silence_after_it() {
        let mut call = Call::start();
        call.extend().await;
        let lost = clock::now();
        call.client.say(FromClient::Hangup).await;
        drop(call.client);
        // What cannot be delivered any more is noticed first.
        call.provider.try_send(spoken("too late")).unwrap();

        let reason = call.driver.join_next().await.unwrap().unwrap();

        assert_eq!((reason, clock::now()), (CloseReason::Hangup, lost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_session_ends_at_once_and_says_so() {
        let mut call = Call::start();
        call.client.hear_event().await;
        call.signals.revoked.cancel();

        let reason = call.driver.join_next().await.unwrap().unwrap();

        assert_eq!(reason, CloseReason::Revoked);
        let mut told = vec![];
        while let Some(message) = call.client.inbox.recv().await {
            told.push(message);
        }
        let [
            ..,
            ToClient::Fault(fault),
            ToClient::Close(CloseReason::Revoked),
        ] = &told[..]
        else {
            panic!("{told:?}");
        };
        assert_eq!(fault.code, "session_revoked");
    }

    /// The far end of a line.
    type End = Line<FromClient, ToClient>;

    impl End {
        async fn say(&self, message: FromClient) {
            self.outbox.send(message).await.unwrap();
        }

        async fn hear(&mut self) -> ToClient {
            self.inbox.recv().await.unwrap()
        }

        /// The next event of the provider's, passing over the rest.
        async fn hear_event(&mut self) -> String {
            loop {
                if let ToClient::Event(json) = self.hear().await {
                    return json.as_str().to_owned();
                }
            }
        }
    }

    /// A session that runs, and all who talk to it.
    struct Call {
        client: End,
        provider: mpsc::Sender<FromVoice>,
        at_provider: mpsc::Receiver<ToVoice>,
        arrivals: mpsc::Sender<Arrival>,
        signals: Signals,
        driver: JoinSet<CloseReason>,
    }

    impl Call {
        fn start() -> Self {
            let (line, client) = pair();
            let (outbox, at_provider) = mpsc::channel(QUEUE);
            let (provider, inbox) = mpsc::channel(QUEUE);
            let (arrivals, comings) = mpsc::channel(1);
            let signals = Signals {
                shutdown: CancellationToken::new(),
                revoked: CancellationToken::new(),
                cancel: CancellationToken::new(),
            };
            let lines = Lines {
                client: Some(line),
                voice: Some(VoiceLine {
                    line: Line { outbox, inbox },
                    tasks: JoinSet::new(),
                }),
                dialer: Box::new(|_| None),
                arrivals: comings,
                traces: Arc::new(|_| {}),
                tools: no_tools(),
                keeper: Box::new(|_| {}),
                observer: Observer::nobody(),
            };
            let config =
                SessionConfig::new("sess".into(), Playback::Relay(PlayoutConfig::default()));
            let session = Session::new(config, clock::now());
            let issuer: Issuer = Box::new(|question| match question {
                ToIssuer::Resume => FromIssuer::Resume("rt".into()),
                ToIssuer::Renew | ToIssuer::Check(_) => FromIssuer::Unavailable,
            });
            let mut driver = JoinSet::new();
            driver.spawn(run(
                session,
                lines,
                issuer,
                Arc::new(|_| {}),
                Arc::new(|_| {}),
                signals.clone(),
            ));
            provider.try_send(created()).unwrap();

            Self {
                client,
                provider,
                at_provider,
                arrivals,
                signals,
                driver,
            }
        }

        /// Lets the client speak `voxline.v1`.
        async fn extend(&mut self) {
            self.client.say(FromClient::Extended).await;
            while !matches!(
                self.client.hear().await,
                ToClient::Notice(Notice::Session { .. })
            ) {}
        }

        async fn join(&self) -> End {
            let (line, end) = pair();
            self.arrivals.send(Arrival::Sideband(line)).await.unwrap();
            end
        }

        async fn come(&self) -> End {
            let (line, end) = pair();
            let device = Device {
                transport: Transport::WebRtc,
                lead: Duration::from_millis(40),
                ear_delay: Duration::from_millis(80),
                flushes: false,
                heard: None,
            };
            let arrival = Arrival::Client(line, device);
            self.arrivals.send(arrival).await.unwrap();
            end
        }

        async fn provide(&self, text: &str) {
            self.provider.send(spoken(text)).await.unwrap();
        }

        async fn at_provider(&mut self) -> ToVoice {
            self.at_provider.recv().await.unwrap()
        }
    }

    fn pair() -> (ClientLine, End) {
        let (outbox, far_inbox) = mpsc::channel(QUEUE);
        let (far_outbox, inbox) = mpsc::channel(QUEUE);
        let end = Line {
            outbox: far_outbox,
            inbox: far_inbox,
        };

        (Line { outbox, inbox }, end)
    }

    fn created() -> FromVoice {
        let session = VoiceSession {
            input: Format::Pcm,
            output: Format::Pcm,
            interrupts: true,
            responds: true,
            silence: Duration::ZERO,
            ..VoiceSession::default()
        };

        FromVoice::Session(session, "created".into())
    }

    fn spoken(text: &str) -> FromVoice {
        FromVoice::Event(text.into())
    }

    fn event(text: &str) -> ToClient {
        ToClient::Event(Json::from(text))
    }

    fn told_by_client(text: &str) -> FromClient {
        FromClient::Event(ClientEvent::Other, text.into())
    }
}
