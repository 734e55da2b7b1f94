//! A WebRTC client, as a browser would be one: it offers sound and data channels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rtc::data_channel::RTCDataChannelInit;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
    SettingEngineBuilder, configure_rtcp_reports,
};

/// Long enough for a loaded machine; nothing is asserted about it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Not the relay's own, so that a mix-up shows.
const PAYLOAD_TYPE: u8 = 109;
const SSRC: u32 = 0x5eed;

/// A client.
pub(crate) struct Peer {
    connection: Box<dyn PeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    channels: HashMap<String, Arc<dyn DataChannel>>,
    signals: Arc<Signals>,
    /// What the relay has sent, by data channel.
    pub(crate) messages: mpsc::UnboundedReceiver<(String, String)>,
    /// Messages that were not asked for yet.
    kept: Vec<(String, String)>,
    pub(crate) sound: mpsc::UnboundedReceiver<rtp::Packet>,
    /// Labels of channels that have opened, and of those that were closed.
    opened: mpsc::UnboundedReceiver<String>,
    pub(crate) closed: mpsc::UnboundedReceiver<String>,
    sequence: u16,
    _readers: JoinSet<()>,
}

impl Peer {
    /// Prepares an offer of sound, and of data channels with these labels.
    pub(crate) async fn new(labels: &[&str]) -> Self {
        let mut media = MediaEngine::default();
        let parameters = RTCRtpCodecParameters {
            rtp_codec: opus(),
            payload_type: PAYLOAD_TYPE,
        };
        media
            .register_codec(parameters, RtpCodecKind::Audio)
            .unwrap();
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_connection_attempts(Some(Duration::from_millis(20)), None)
            .build();
        let signals = Arc::new(Signals::default());
        let (sound_sender, sound) = mpsc::unbounded_channel();
        let handler = Handler {
            signals: Arc::clone(&signals),
            sound: sound_sender,
            readers: Default::default(),
        };
        let connection = PeerConnectionBuilder::new()
            .with_handler(Arc::new(handler))
            .with_media_engine(media)
            .with_setting_engine(settings)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();

        let track = Arc::new(TrackLocalStaticRTP::new(microphone()));
        connection
            .add_track(Arc::clone(&track) as Arc<dyn TrackLocal>)
            .await
            .unwrap();

        let (message_sender, messages) = mpsc::unbounded_channel();
        let (opened_sender, opened) = mpsc::unbounded_channel();
        let (closed_sender, closed) = mpsc::unbounded_channel();
        let mut channels = HashMap::new();
        let mut readers = JoinSet::new();
        for label in labels {
            let init = (*label == "voxline.timing").then(|| RTCDataChannelInit {
                ordered: false,
                max_retransmits: Some(0),
                ..Default::default()
            });
            let channel = connection.create_data_channel(label, init).await.unwrap();
            channels.insert((*label).to_owned(), Arc::clone(&channel));
            let label = (*label).to_owned();
            let (messages, opened, closed) = (
                message_sender.clone(),
                opened_sender.clone(),
                closed_sender.clone(),
            );
            readers.spawn(async move {
                while let Some(event) = channel.poll().await {
                    #[expect(
                        clippy::wildcard_enum_match_arm,
                        reason = "the library may add events"
                    )]
                    match event {
                        DataChannelEvent::OnOpen => drop(opened.send(label.clone())),
                        DataChannelEvent::OnMessage(message) => {
                            let text = String::from_utf8(message.data.to_vec()).unwrap();
                            drop(messages.send((label.clone(), text)));
                        }
                        DataChannelEvent::OnClose => break,
                        _ => {}
                    }
                }
                drop(closed.send(label));
            });
        }
        Self {
            connection: Box::new(connection),
            track,
            channels,
            signals,
            messages,
            kept: vec![],
            sound,
            opened,
            closed,
            sequence: 100,
            _readers: readers,
        }
    }

    /// Returns the complete offer.
    pub(crate) async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer).await.unwrap();
        self.signals.gathered.notified().await;
        self.connection.local_description().await.unwrap().sdp
    }

    /// Takes the answer, and waits until sound can flow and the channels are open.
    pub(crate) async fn connect(&mut self, answer: &str) {
        self.accept(answer).await;
        within("connecting", self.signals.connected.notified()).await;
        let (channels, opened) = (&self.channels, &mut self.opened);
        let opening = async {
            for _ in 0..channels.len() {
                opened.recv().await.unwrap();
            }
        };
        // The library sends what its own events lead to when it wakes up next, and sleeps for
        // 200 ms at a time: this wakes it.
        let waking = async {
            let mut often = tokio::time::interval(Duration::from_millis(2));
            loop {
                often.tick().await;
                for channel in channels.values() {
                    let _ = channel.set_buffered_amount_low_threshold(0).await;
                }
            }
        };
        within("opening the channels", async {
            tokio::select! {
                () = opening => {}
                () = waking => {}
            }
        })
        .await;
    }

    /// Begins an ICE restart; returns the fragment for the relay.
    pub(crate) async fn restart(&self) -> String {
        self.connection.restart_ice().await.unwrap();
        let offer = self.offer().await;
        let section = offer.split("m=").nth(1).unwrap();
        let line = |name: &str| {
            let line = section.lines().find(|line| line.starts_with(name));
            format!("{}\r\n", line.unwrap())
        };
        let lines = ["a=ice-ufrag:", "a=ice-pwd:", "a=mid:", "a=candidate:"].map(line);
        let [ufrag, password, mid, candidate] = lines;
        format!("{ufrag}{password}m=audio 9 RTP/AVP 0\r\n{mid}{candidate}")
    }

    /// Goes on with an ICE restart, as the relay's fragment says. The rest is as it was answered.
    pub(crate) async fn restarted(&self, answer: &str, fragment: &str) {
        let line = |name| fragment.lines().find(|line: &&str| line.starts_with(name));
        let renewed = answer.lines().map(|old| {
            let name = ["a=ice-ufrag:", "a=ice-pwd:"]
                .into_iter()
                .find(|name| old.starts_with(name));
            name.and_then(line).unwrap_or(old)
        });
        let renewed: String = renewed.flat_map(|line| [line, "\r\n"]).collect();
        self.accept(&renewed).await;
    }

    /// Takes the answer.
    pub(crate) async fn accept(&self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.into()).unwrap();
        self.connection
            .set_remote_description(answer)
            .await
            .unwrap();
    }

    /// Sends an Opus packet for this position of the microphone's stream, in 48 kHz ticks.
    pub(crate) async fn speak(&mut self, payload: impl Into<Bytes>, timestamp: u32) {
        let header = rtp::Header {
            version: 2,
            payload_type: PAYLOAD_TYPE,
            sequence_number: self.sequence,
            timestamp,
            ssrc: SSRC,
            ..Default::default()
        };
        let payload = payload.into();
        self.sequence = self.sequence.wrapping_add(1);
        self.track
            .write_rtp(rtp::Packet { header, payload })
            .await
            .unwrap();
    }

    pub(crate) async fn send(&self, label: &str, text: &str) {
        self.channels[label].send_text(text).await.unwrap();
    }

    pub(crate) async fn send_bytes(&self, label: &str, bytes: &[u8]) {
        self.channels[label]
            .send(BytesMut::from(bytes))
            .await
            .unwrap();
    }

    /// Returns the next message on the data channel with this label. Those on the others are
    /// kept: there is no order between channels.
    pub(crate) async fn message(&mut self, label: &str) -> String {
        if let Some(index) = self.kept.iter().position(|(from, _)| from == label) {
            return self.kept.remove(index).1;
        }
        loop {
            let (from, text) = within("a message", self.messages.recv()).await.unwrap();
            if from == label {
                return text;
            }
            self.kept.push((from, text));
        }
    }

    /// Returns the next packet of the relay's voice.
    pub(crate) async fn hear(&mut self) -> rtp::Packet {
        within("sound", self.sound.recv()).await.unwrap()
    }

    pub(crate) async fn hang_up(&self) {
        self.connection.close().await.unwrap();
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took more than {PATIENCE:?}"),
    }
}

#[derive(Default)]
struct Signals {
    gathered: Notify,
    connected: Notify,
}

struct Handler {
    signals: Arc<Signals>,
    sound: mpsc::UnboundedSender<rtp::Packet>,
    readers: std::sync::Mutex<JoinSet<()>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.signals.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.signals.connected.notify_one();
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let sound = self.sound.clone();
        self.readers.lock().unwrap().spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    drop(sound.send(packet));
                }
            }
        });
    }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: Vec::new(),
    }
}

fn microphone() -> MediaStreamTrack {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(SSRC),
            ..Default::default()
        },
        codec: opus(),
        ..Default::default()
    };
    let name = || "microphone".to_owned();
    MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding])
}
