//! Answers offers: from an SDP text to a leg that waits for its caller, and an SDP text back.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::setting_engine::SctpMaxMessageSize;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RtpCodecKind,
};
use rtc::shared::ifaces;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, RTCSessionDescription, Registry,
    SettingEngineBuilder, configure_rtcp_reports,
};

use crate::client::webrtc::ice::Credentials;
use crate::client::webrtc::leg::Leg;
use crate::client::webrtc::mux::{Line, Mux};
use crate::client::webrtc::peer::{Handler, Link, PEER_EVENTS, PeerEvent};
use crate::client::webrtc::playback::Playback;
use crate::client::webrtc::runtime::{LegRuntime, Tasks};
use crate::client::webrtc::sdp::{Answer, Offer, OfferError};
use crate::clock;

/// How long answering an offer may take. It waits for nothing on the network.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of events that wait in SCTP for one channel of one client, in bytes.
pub(crate) const SEND_BUFFER: usize = 1 << 20;

/// The largest message of events, both ways: what browsers take and give.
pub(crate) const MAX_MESSAGE: u32 = SctpMaxMessageSize::MAX_MESSAGE_SIZE;

/// A machine with more addresses announces the first ones, and loopback.
const MAX_ADDRESSES: usize = 8;

/// How calls are taken.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the one UDP port is bound.
    pub listen: SocketAddr,
    /// The address at which clients reach that port, where it is another one (NAT, port kept).
    /// Without it, and with `listen` on every interface, each of them is announced.
    pub announced: Option<IpAddr>,
    /// Calls at a time.
    pub max_calls: usize,
    /// The largest offer, in bytes. A browser's has three to eight thousand.
    pub max_offer: usize,
    /// A call that is not connected this long after its answer ends.
    pub connect_timeout: Duration,
    /// A call ends when nothing that is surely the client's, be it a connectivity check, is heard
    /// for this long.
    pub media_idle: Duration,
    /// Whether clients may open `voxline` and `voxline.timing`, and get notices there.
    pub notices: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            announced: None,
            max_calls: 200,
            max_offer: 64 * 1024,
            connect_timeout: Duration::from_secs(30),
            media_idle: Duration::from_secs(15),
            notices: true,
        }
    }
}

/// The relay's WebRTC side: one UDP port, any number of calls up to the limit.
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    mux: Arc<Mux>,
    addresses: Vec<SocketAddr>,
    calls: Arc<Semaphore>,
    /// Reads the port; ends with the endpoint.
    _reader: JoinSet<()>,
}

impl Endpoint {
    /// Binds the port. Needs a tokio runtime.
    pub fn bind(settings: Settings) -> io::Result<Arc<Self>> {
        let mux = Arc::new(Mux::bind(settings.listen)?);
        let addresses = announced(mux.local_addr()?, settings.announced)?;
        let mut reader = JoinSet::new();
        let receiving = Arc::clone(&mux);
        reader.spawn(async move { receiving.receive().await });
        Ok(Arc::new(Self {
            calls: Arc::new(Semaphore::new(settings.max_calls)),
            settings,
            mux,
            addresses,
            _reader: reader,
        }))
    }

    /// The addresses that answers name, the preferred one first; all have the one port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers an SDP offer. The answer is complete: there are no candidates to follow.
    pub async fn answer(&self, offer: &str) -> Result<(String, Leg), OfferError> {
        let offer = Offer::parse(offer, self.settings.max_offer)?;
        let limit = self.settings.max_calls;
        let permit = Arc::clone(&self.calls)
            .try_acquire_owned()
            .map_err(|_| OfferError::TooManyCalls { limit })?;

        let ice = Credentials::random();
        let remote = offer.credentials().clone();
        let line = self.mux.connect(ice.clone(), remote, clock::now());
        // On a task of its own: should an offer make the library panic, it is this one's problem.
        let mut task = JoinSet::new();
        let (addresses, notices) = (self.addresses.clone(), self.settings.notices);
        task.spawn(negotiate(offer, ice, line, addresses, notices));
        let joined = tokio::time::timeout(ANSWER_TIMEOUT, task.join_next()).await;
        let call = match joined {
            Ok(Some(Ok(call))) => call?,
            Ok(Some(Err(error))) => return Err(internal(error)),
            Ok(None) | Err(_) => return Err(internal("it took too long")),
        };
        let deadline = clock::now() + self.settings.connect_timeout;
        let sdp = call.answer.sdp.clone();
        Ok((
            sdp,
            Leg::new(call, permit, deadline, self.settings.media_idle),
        ))
    }
}

/// An answered offer.
pub(crate) struct Call {
    pub(crate) answer: Answer,
    pub(crate) connection: Box<dyn PeerConnection>,
    pub(crate) track: Arc<TrackLocalStaticRTP>,
    pub(crate) playback: Playback,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    pub(crate) link: Link,
    /// Ends before the line does, which the library would take for an error.
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) line: Line,
}

async fn negotiate(
    offer: Offer,
    ice: Credentials,
    line: Line,
    addresses: Vec<SocketAddr>,
    notices: bool,
) -> Result<Call, OfferError> {
    let tasks = Arc::new(Tasks::default());
    let link = Link::default();
    let gathered = Arc::new(Notify::new());
    let (sender, events) = mpsc::channel(PEER_EVENTS);
    let handler = Handler::new(sender, &tasks, link.clone(), Arc::clone(&gathered), notices);
    let runtime = LegRuntime {
        tasks: Arc::downgrade(&tasks),
        port: line.port(),
        gone: link.gone.clone(),
    };

    let mut media = MediaEngine::default();
    media
        .register_codec(opus_parameters(), RtpCodecKind::Audio)
        .map_err(internal)?;
    let reports = configure_rtcp_reports(Registry::new());
    let settings = SettingEngineBuilder::new()
        .with_ice_credentials(ice.ufrag, ice.password)
        // The mux follows the client; a leg knows when nothing is heard of it any more.
        .with_ice_timeouts(Some(Duration::ZERO), Some(Duration::ZERO), None)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE))
        .build();
    let connection = PeerConnectionBuilder::new()
        .with_runtime(Arc::new(runtime))
        .with_handler(Arc::new(handler))
        .with_media_engine(media)
        .with_interceptor_registry(reports)
        .with_setting_engine(settings)
        .with_data_channel_send_buffer_limit(SEND_BUFFER)
        .with_udp_addrs(vec![line.library_address()])
        .build()
        .await
        .map_err(internal)?;
    let connection: Box<dyn PeerConnection> = Box::new(connection);

    let ssrc = rand::random();
    let track = Arc::new(TrackLocalStaticRTP::new(voice(ssrc)));
    let sending: Arc<dyn TrackLocal> = Arc::clone(&track) as Arc<dyn TrackLocal>;
    connection.add_track(sending).await.map_err(internal)?;

    let offer = RTCSessionDescription::offer(offer.into_string()).map_err(unanswerable)?;
    connection
        .set_remote_description(offer)
        .await
        .map_err(unanswerable)?;
    let answer = connection.create_answer(None).await.map_err(unanswerable)?;
    connection
        .set_local_description(answer)
        .await
        .map_err(unanswerable)?;
    gathered.notified().await;
    let description = connection.local_description().await;
    let description = description.ok_or_else(|| internal("it has no local description"))?;
    let answer = Answer::announce(&description.sdp, &addresses)
        .ok_or_else(|| unanswerable("no common audio format"))?;

    let playback = Playback::new(ssrc, answer.opus).map_err(internal)?;
    Ok(Call {
        answer,
        connection,
        track,
        playback,
        events,
        link,
        tasks,
        line,
    })
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

fn opus_parameters() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: opus(),
        payload_type: 111,
    }
}

fn voice(ssrc: u32) -> MediaStreamTrack {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..Default::default()
        },
        codec: opus(),
        ..Default::default()
    };
    let (stream, track, label) = ("voxline", "voice", "voice");
    let kind = RtpCodecKind::Audio;
    MediaStreamTrack::new(
        stream.into(),
        track.into(),
        label.into(),
        kind,
        vec![encoding],
    )
}

fn announced(bound: SocketAddr, announced: Option<IpAddr>) -> io::Result<Vec<SocketAddr>> {
    let ips = match announced {
        Some(ip) => vec![ip],
        None if bound.ip().is_unspecified() => machine_addresses(bound.is_ipv4())?,
        None => vec![bound.ip()],
    };
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, bound.port()))
        .collect())
}

/// The machine's addresses: those that others reach first, loopback last. A socket on every
/// IPv6 address takes IPv4 as well.
fn machine_addresses(ipv4_only: bool) -> io::Result<Vec<IpAddr>> {
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ipv4_only && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    };
    let ips = ifaces::ifaces()?
        .into_iter()
        .filter_map(|interface| interface.addr.map(|address| address.ip()))
        .filter(usable);
    let (mut loopback, mut ips): (Vec<_>, Vec<_>) = ips.partition(IpAddr::is_loopback);
    ips.truncate(MAX_ADDRESSES);
    loopback.truncate(2);
    ips.append(&mut loopback);
    Ok(ips)
}

fn internal(error: impl Display) -> OfferError {
    tracing::error!(%error, "Offer not answered");
    OfferError::Internal
}

fn unanswerable(reason: impl Display) -> OfferError {
    OfferError::Unanswerable {
        reason: reason.to_string(),
    }
}
