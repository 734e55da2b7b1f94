//! From the WebRTC library's callbacks to one queue of events.
//!
//! Callbacks run on the task that drives the connection and must not wait; readers, which may,
//! run on tasks of their own. A full queue stops them: SCTP then slows the client down, and RTP
//! is dropped by the library.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
};

use crate::client::webrtc::runtime::Tasks;

/// Events of one call that wait for its leg.
pub(crate) const PEER_EVENTS: usize = 64;

/// Data channels that a call may open in its life; we know three. One more ends it.
const MAX_CHANNELS: usize = 16;

/// What the other end does.
pub(crate) enum PeerEvent {
    Rtp(rtc::rtp::Packet),
    Opened(Label, Arc<dyn DataChannel>),
    Text(Label, String),
    Binary,
    Closed(Label),
}

/// A data channel that we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Label {
    /// `oai-events`: OpenAI's events, both ways.
    Events,
    /// `voxline`: the relay's own events.
    Voxline,
    /// `voxline.timing`: playout reports and pings.
    Timing,
}

impl Label {
    fn parse(label: &str, notices: bool) -> Option<Self> {
        match label {
            "oai-events" => Some(Self::Events),
            "voxline" if notices => Some(Self::Voxline),
            "voxline.timing" if notices => Some(Self::Timing),
            _ => None,
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// ICE and DTLS are done: media can flow.
    pub(crate) connected: CancellationToken,
    /// The connection has failed, or nothing drives it any more.
    pub(crate) gone: CancellationToken,
}

pub(crate) struct Handler {
    events: mpsc::Sender<PeerEvent>,
    tasks: Weak<Tasks>,
    link: Link,
    gathered: Arc<Notify>,
    notices: bool,
    tracks: AtomicUsize,
    channels: AtomicUsize,
}

impl Handler {
    /// `gathered` is notified when the local candidates are complete; without `notices`, only
    /// OpenAI's events have a channel.
    pub(crate) fn new(
        events: mpsc::Sender<PeerEvent>,
        tasks: &Arc<Tasks>,
        link: Link,
        gathered: Arc<Notify>,
        notices: bool,
    ) -> Self {
        Self {
            events,
            tasks: Arc::downgrade(tasks),
            link,
            gathered,
            notices,
            tracks: AtomicUsize::new(0),
            channels: AtomicUsize::new(0),
        }
    }

    fn spawn(&self, reader: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.spawn(reader);
        }
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(?state, "Connection state");
        if state == RTCPeerConnectionState::Connected {
            self.link.connected.cancel();
        }
        if matches!(
            state,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
        ) {
            self.link.gone.cancel();
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let first = self.tracks.fetch_add(1, Ordering::Relaxed) == 0;
        self.spawn(read_track(track, first.then(|| self.events.clone())));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        if self.channels.fetch_add(1, Ordering::Relaxed) < MAX_CHANNELS {
            self.spawn(read_channel(channel, self.events.clone(), self.notices));
        } else {
            tracing::info!("Client opened too many data channels");
            self.link.gone.cancel();
        }
    }
}

/// Only the first track is heard. The others are read all the same, or the library complains.
async fn read_track(track: Arc<dyn TrackRemote>, events: Option<mpsc::Sender<PeerEvent>>) {
    while let Some(event) = track.poll().await {
        if let TrackRemoteEvent::OnRtpPacket(packet) = event
            && let Some(events) = &events
            && events.send(PeerEvent::Rtp(packet)).await.is_err()
        {
            return;
        }
    }
}

async fn read_channel(
    channel: Arc<dyn DataChannel>,
    events: mpsc::Sender<PeerEvent>,
    notices: bool,
) {
    let Ok(name) = channel.label().await else {
        return;
    };
    let Some(label) = Label::parse(&name, notices) else {
        tracing::debug!("Data channel with an unknown label closed");
        let _ = channel.close().await;
        return;
    };
    let opened = PeerEvent::Opened(label, Arc::clone(&channel));
    if events.send(opened).await.is_err() {
        return;
    }
    while let Some(event) = channel.poll().await {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library may add events")]
        let event = match event {
            DataChannelEvent::OnMessage(message) if message.is_string => {
                String::from_utf8(message.data.to_vec())
                    .map_or(PeerEvent::Binary, |text| PeerEvent::Text(label, text))
            }
            DataChannelEvent::OnMessage(_) => PeerEvent::Binary,
            DataChannelEvent::OnClose => break,
            _ => continue,
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
    let _ = events.send(PeerEvent::Closed(label)).await;
}
