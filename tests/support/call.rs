//! A call seen from both ends: a client, and the session that the leg serves.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use voxline::client::webrtc::{End, Endpoint, Leg, Settings};
use voxline::core::audio::{Format, Frame};
use voxline::core::latency::Sample;
use voxline::core::port::{FromClient, ToClient};

use crate::support::peer::{Peer, within};

/// The session's end of a leg.
pub(crate) struct Session {
    pub(crate) to_leg: mpsc::Sender<ToClient>,
    pub(crate) from_leg: mpsc::Receiver<FromClient>,
    pub(crate) cancel: CancellationToken,
    pub(crate) samples: Arc<Mutex<Vec<Sample>>>,
    leg: JoinHandle<End>,
}

impl Session {
    /// Runs the leg.
    #[expect(
        clippy::disallowed_methods,
        reason = "the task's owner is the handle beside it"
    )]
    pub(crate) fn start(leg: Leg) -> Self {
        let (to_session, from_leg) = mpsc::channel(64);
        let (to_leg, from_session) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(&samples);
        let recorder = Arc::new(move |sample| store.lock().unwrap().push(sample));
        let running = leg.run(
            to_session,
            from_session,
            recorder,
            Arc::new(|_| {}),
            cancel.clone(),
        );
        Self {
            to_leg,
            from_leg,
            cancel,
            samples,
            leg: tokio::spawn(running),
        }
    }

    pub(crate) async fn say(&self, message: ToClient) {
        within("handing over a message", self.to_leg.send(message))
            .await
            .unwrap();
    }

    /// Hands over 20 ms of a tone for this position.
    pub(crate) async fn play(&self, position: Duration, due: Instant) {
        let pcm = (0..480_i16).flat_map(|index| ((index % 48) * 200).to_le_bytes());
        let frame = Frame {
            format: Format::Pcm,
            payload: pcm.collect(),
        };
        self.say(ToClient::Play {
            frame,
            position,
            due,
            first: false,
        })
        .await;
    }

    /// Returns the next sound, and when it was received, passing over the rest.
    pub(crate) async fn sound(&mut self) -> (Bytes, Instant) {
        loop {
            let message = within("sound", self.from_leg.recv()).await.unwrap();
            if let FromClient::Audio { payload, received } = message {
                return (payload, received);
            }
        }
    }

    /// Returns what the client said next, passing over sound, that it is there, and what the leg
    /// finds out by itself.
    pub(crate) async fn heard(&mut self) -> FromClient {
        loop {
            let message = within("something from the client", self.from_leg.recv())
                .await
                .unwrap();
            let greets = matches!(message, FromClient::Ready | FromClient::Extended);
            let own = matches!(
                message,
                FromClient::Audio { .. } | FromClient::Speech(_) | FromClient::Network(_)
            );
            if !greets && !own {
                return message;
            }
        }
    }

    /// Drops both queues, as a session that has ended, and returns how the leg took it.
    pub(crate) async fn drop_ends(self) -> End {
        drop((self.to_leg, self.from_leg));
        within("the leg's end", self.leg).await.unwrap()
    }

    pub(crate) async fn end(self) -> End {
        within("the leg's end", self.leg).await.unwrap()
    }
}

/// An endpoint on the loopback.
pub(crate) fn endpoint() -> Arc<Endpoint> {
    Endpoint::bind(Settings::default()).unwrap()
}

/// Sets up a call on which the client has opened these data channels.
pub(crate) async fn call(endpoint: &Endpoint, labels: &[&str]) -> (Peer, Session) {
    let mut peer = Peer::new(labels).await;
    let (answer, leg) = endpoint.answer(&peer.offer().await).await.unwrap();
    let session = Session::start(leg);
    peer.connect(&answer).await;
    (peer, session)
}
