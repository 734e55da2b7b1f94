//! One call from its answer to its end.
//!
//! **Invariants.** The leg waits in one place. It ends when either side is gone, when the client
//! never connects, falls silent, or does not take its events; and when it ends, its tasks, its
//! part of the port and its place among the calls are free again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::rtp;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use webrtc::media_stream::track_local::TrackLocal;

use crate::client::ear::Listener;
use crate::client::timing::Timing;
use crate::client::webrtc::channels::{Channels, Overrun};
use crate::client::webrtc::control::Control;
use crate::client::webrtc::endpoint::Call;
use crate::client::webrtc::peer::{Label, PeerEvent};
use crate::clock;
use crate::core::audio::{Format, Frame};
use crate::core::latency::Recorder;
use crate::core::port::{Fault, FromClient, Played, Received, ToClient};
use crate::core::tally::{Ledger, Tally};
use crate::media::receiver::{Figures, Packet, Pcm, Receiver};
use crate::wire::realtime::{self, Carrier};
use crate::wire::voxline::{self, FromDevice, Place};

/// After so many packets, a second of sound, it is told what became of them.
const TELLING: u64 = 50;

/// What waits for the session. At the bound the leg stops reading from the client.
const UPLINK_BACKLOG: usize = 64;

/// Messages of the session that are taken at once, so that a `Flush` overtakes what it drops.
const DOWNLINK_BATCH: usize = 256;

/// How long the last events may take, from the session's end or the call's to their arrival.
const LINGER: Duration = Duration::from_millis(500);

/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a leg has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The client has closed its events channel: so it shows when a page closes its connection.
    HungUp,
    /// The connection has failed, the client has fallen silent, or one that speaks `voxline.v1`,
    /// and so hangs up over HTTP, has closed it.
    Lost,
    /// The client did not connect in time.
    NeverConnected,
    /// The client did not take its events.
    Overrun,
    /// The session has ended, or the call was cancelled.
    Released,
}

/// An answered call.
pub struct Leg {
    call: Call,
    channels: Channels,
    receiver: Receiver,
    /// What was told of the receiver.
    told: Received,
    listener: Listener,
    timing: Timing,
    /// What waits for the session.
    uplink: VecDeque<FromClient>,
    connected: bool,
    /// It has opened the channel for `voxline.v1`.
    extended: bool,
    /// From the call's URL: where the client's ear is, which restarts ICE.
    ears: (mpsc::Sender<Duration>, mpsc::Receiver<Duration>),
    /// The same, until ICE has found a path.
    returning: Option<Duration>,
    connect_by: Instant,
    media_idle: Duration,
    /// The call's place among those that are taken at a time.
    _permit: OwnedSemaphorePermit,
}

impl Leg {
    pub(crate) fn new(
        call: Call,
        permit: OwnedSemaphorePermit,
        connect_by: Instant,
        media_idle: Duration,
    ) -> Self {
        Self {
            channels: Channels::new(call.answer.events, call.playback.origin()),
            receiver: Receiver::new(),
            told: Received::default(),
            listener: Listener::new(),
            timing: Timing::default(),
            uplink: VecDeque::new(),
            connected: false,
            extended: false,
            ears: mpsc::channel(1),
            returning: None,
            connect_by,
            media_idle,
            call,
            _permit: permit,
        }
    }

    /// Returns what reaches the call while it runs.
    pub fn control(&self) -> Control {
        let port = Arc::downgrade(&self.call.line.port());
        Control::new(port, self.call.answer.section.clone(), self.ears.0.clone())
    }

    /// Carries sound and events until either side is gone.
    pub async fn run(
        mut self,
        to_session: mpsc::Sender<FromClient>,
        mut from_session: mpsc::Receiver<ToClient>,
        recorder: Recorder,
        ledger: Ledger,
        cancel: CancellationToken,
    ) -> End {
        self.call.line.meter().report_to(recorder);
        let end = loop {
            let input = self.next(&to_session, &mut from_session, &cancel).await;
            if let Err(end) = self.handle(input, &mut from_session, clock::now()).await {
                break end;
            }
            if self.receiver.figures().packets >= self.told.packets + TELLING {
                self.tell_received(&ledger);
            }
        };
        self.tell_received(&ledger);
        tracing::debug!(?end, "WebRTC leg ends");
        if end == End::Released {
            let finish = self.finish(&mut from_session);
            let _ = tokio::time::timeout(LINGER, finish).await;
        }
        if matches!(end, End::HungUp | End::Overrun) {
            // Else the session would wait for the client to come back.
            let _ = tokio::time::timeout(LINGER, to_session.send(FromClient::Hangup)).await;
        }
        drop((to_session, from_session));
        if let Ok(Err(error)) =
            tokio::time::timeout(CLOSE_TIMEOUT, self.call.connection.close()).await
        {
            tracing::debug!(%error, "Closing");
        }
        self.call.tasks.shutdown().await;
        end
    }

    /// Sends what the session says last, and waits until it has arrived.
    async fn finish(&mut self, from_session: &mut mpsc::Receiver<ToClient>) {
        while let Some(message) = from_session.recv().await
            && self.on_session(message, from_session).await.is_ok()
        {}
        self.channels.drain().await;
    }

    async fn next(
        &mut self,
        to_session: &mpsc::Sender<FromClient>,
        from_session: &mut mpsc::Receiver<ToClient>,
        cancel: &CancellationToken,
    ) -> Input {
        let (empty, full) = (self.uplink.is_empty(), self.uplink.len() >= UPLINK_BACKLOG);
        let (link, connected) = (&self.call.link, self.connected);
        let timeout = self.poll_timeout();
        tokio::select! {
            biased;
            () = cancel.cancelled() => Input::End(End::Released),
            () = link.gone.cancelled() => Input::End(End::Lost),
            () = link.connected.cancelled(), if !connected => Input::Connected,
            Ok(permit) = to_session.reserve(), if !empty => {
                if let Some(message) = self.uplink.pop_front() {
                    permit.send(message);
                }
                Input::Tick
            }
            message = from_session.recv() => {
                message.map_or(Input::End(End::Released), Input::Session)
            }
            // Only then: what the session has said last is still sent.
            () = to_session.closed() => Input::End(End::Released),
            Some(heard) = self.ears.1.recv() => Input::Restarting(heard),
            Some(event) = self.call.events.recv(), if !full => Input::Peer(event),
            () = clock::sleep_until(Some(timeout)) => Input::Tick,
        }
    }

    /// Tells what has become of the client's sound since it was told last.
    fn tell_received(&mut self, ledger: &Ledger) {
        let Figures {
            packets,
            lost,
            samples,
            concealed,
        } = self.receiver.figures();
        let now = Received {
            packets,
            lost,
            samples,
            concealed,
        };
        ledger(Tally::Arrived(now.since(self.told)));
        self.told = now;
    }

    fn poll_timeout(&self) -> Instant {
        let frame = self.receiver.poll_timeout();
        let frame = frame.filter(|_| self.uplink.len() < UPLINK_BACKLOG);
        let lost = self.lost_at();
        frame.map_or(lost, |frame| frame.min(lost))
    }

    fn lost_at(&self) -> Instant {
        if self.connected {
            self.call.line.meter().last_heard() + self.media_idle
        } else {
            self.connect_by
        }
    }

    async fn handle(
        &mut self,
        input: Input,
        from_session: &mut mpsc::Receiver<ToClient>,
        now: Instant,
    ) -> Result<(), End> {
        match input {
            Input::End(end) => return Err(end),
            Input::Connected => {
                self.connected = true;
                self.call.line.meter().heard(now);
                if !self.call.answer.events {
                    // There is no channel to wait for.
                    self.uplink.push_back(FromClient::Ready);
                }
            }
            Input::Session(first) => self.on_session(first, from_session).await?,
            Input::Peer(event) => {
                self.call.line.meter().heard(now);
                self.on_peer(event, now).await?;
            }
            Input::Restarting(heard) => {
                self.uplink.push_back(FromClient::Away);
                self.returning = Some(heard);
            }
            Input::Tick => {}
        }
        if !self.call.line.port().is_restarting() {
            let heard = self.returning.take();
            self.uplink.extend(heard.map(FromClient::Heard));
        }
        if now >= self.lost_at() {
            return Err(if self.connected {
                End::Lost
            } else {
                End::NeverConnected
            });
        }
        let sent = self.call.line.meter().take_sent();
        self.uplink
            .extend(sent.map(|(position, at)| FromClient::Sent { position, at }));
        self.hear(now);
        Ok(())
    }

    /// Takes everything that the session has said by now; sound before a `Flush` is not sent.
    async fn on_session(
        &mut self,
        first: ToClient,
        from_session: &mut mpsc::Receiver<ToClient>,
    ) -> Result<(), End> {
        let mut batch = vec![first];
        while batch.len() < DOWNLINK_BATCH
            && let Ok(message) = from_session.try_recv()
        {
            batch.push(message);
        }
        let kept = batch
            .iter()
            .rposition(|message| *message == ToClient::Flush);
        for (index, message) in batch.into_iter().enumerate() {
            match message {
                ToClient::Play { .. } if kept.is_some_and(|flush| index < flush) => {}
                ToClient::Play {
                    frame,
                    position,
                    due,
                    first,
                } => self.play(&frame, position, due, first).await,
                ToClient::Flush => {
                    self.call.line.port().hush(false);
                    self.call.playback.cut();
                }
                ToClient::Close(_) => {
                    // Nothing follows: there is no need to wait for the session's end.
                    from_session.close();
                    return Err(End::Released);
                }
                ToClient::Missed(missed) => {
                    for message in &missed {
                        self.channels.send(message).await?;
                    }
                }
                ToClient::Event(_)
                | ToClient::Created { .. }
                | ToClient::Output(..)
                | ToClient::Failed(_)
                | ToClient::Truncated { .. }
                | ToClient::Notice(_)
                | ToClient::Fault(_) => self.channels.send(&message).await?,
            }
        }
        Ok(())
    }

    /// Position gaps are silence: nothing is sent for them.
    async fn play(&mut self, frame: &Frame, position: Duration, due: Instant, first: bool) {
        if !self.connected || frame.format != Format::Pcm {
            return;
        }
        self.listener.play(frame, position, clock::now());
        match self.call.playback.pack(frame, position) {
            Ok(packet) => {
                let meter = self.call.line.meter();
                meter.expect(
                    packet.header.sequence_number,
                    due,
                    first.then_some(position),
                );
                if let Err(error) = self.call.track.write_rtp(packet).await {
                    tracing::debug!(%error, "RTP packet not sent");
                }
            }
            Err(error) => tracing::warn!(%error, "Frame not encoded"),
        }
    }

    async fn on_peer(&mut self, event: PeerEvent, now: Instant) -> Result<(), End> {
        match event {
            PeerEvent::Rtp(packet) => self.on_rtp(packet, now),
            PeerEvent::Opened(label, channel) => {
                self.channels.open(label, channel).await?;
                match label {
                    Label::Events => self.uplink.push_back(FromClient::Ready),
                    Label::Voxline => {
                        self.extended = true;
                        self.uplink.push_back(FromClient::Extended);
                    }
                    Label::Timing => {}
                }
            }
            PeerEvent::Text(Label::Events, text) => {
                match realtime::decode_client(&text, Carrier::WebRtc, now) {
                    Ok(message) => self.uplink.push_back(message),
                    Err(fault) => self.uplink.push_back(FromClient::Rejected(fault)),
                }
            }
            PeerEvent::Text(label @ (Label::Voxline | Label::Timing), text) => {
                self.on_voxline(label, &text, now).await?;
            }
            PeerEvent::Binary => self.uplink.push_back(FromClient::Rejected(binary())),
            PeerEvent::Closed(Label::Events) if self.extended => return Err(End::Lost),
            PeerEvent::Closed(Label::Events) => return Err(End::HungUp),
            PeerEvent::Closed(label @ (Label::Voxline | Label::Timing)) => {
                self.channels.close(label);
            }
        }
        Ok(())
    }

    fn on_rtp(&mut self, packet: rtp::Packet, now: Instant) {
        if packet.header.payload_type != self.call.answer.opus {
            return;
        }
        let sequence = packet.header.sequence_number;
        let meter = self.call.line.meter();
        let received = meter.arrival(sequence).unwrap_or(now);
        let mut way = meter.way();
        way.arrived(packet.header.timestamp, received);
        let news = way.news();
        drop(way);
        if let Some(network) = news {
            let ways = self.timing.round_trip(network.round_trip);
            self.uplink.push_back(FromClient::Network(network));
            self.uplink.extend(ways.map(FromClient::Ways));
        }
        let packet = Packet {
            sequence,
            timestamp: packet.header.timestamp,
            payload: packet.payload,
            received,
        };
        self.receiver.push(packet);
    }

    async fn on_voxline(&mut self, label: Label, text: &str, now: Instant) -> Result<(), End> {
        match voxline::decode(text) {
            Some(FromDevice::Ping(ping)) => {
                self.channels.reply(label, &voxline::pong(ping.id)).await?;
                let alive = ping.every.map(|every| FromClient::Alive { every });
                self.uplink.extend(alive);
                let ways = self.timing.ping(&ping, now, clock::now());
                self.uplink.extend(ways.map(FromClient::Ways));
            }
            Some(FromDevice::Playout {
                place,
                when,
                output_latency,
            }) => {
                let position = match place {
                    Place::Rtp(timestamp) => self.call.playback.locate(timestamp),
                    // Here positions are RTP timestamps.
                    Place::Position(_) => None,
                };
                let at = self.timing.instant(when, now);
                if let (Some(position), Some((at, exact))) = (position, at) {
                    let position = position.saturating_sub(output_latency);
                    self.uplink.push_back(FromClient::Played(Played {
                        position,
                        at,
                        exact,
                    }));
                }
            }
            Some(FromDevice::Said(message)) => self.uplink.push_back(message),
            None => self.uplink.push_back(FromClient::Rejected(not_voxline())),
        }
        Ok(())
    }

    /// Passes on the sound that is due.
    fn hear(&mut self, now: Instant) {
        while self.uplink.len() < UPLINK_BACKLOG
            && let Some(Pcm { samples, received }) = self.receiver.poll_frame(now)
        {
            let speech = self.listener.hear(&samples, received, now);
            let payload = samples.into_iter().flat_map(i16::to_le_bytes).collect();
            self.uplink
                .push_back(FromClient::Audio { payload, received });
            // The sound comes first: what it is taken for holds back nothing.
            self.uplink.extend(speech);
        }
    }
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leg")
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl From<Overrun> for End {
    fn from(_: Overrun) -> Self {
        Self::Overrun
    }
}

enum Input {
    End(End),
    Connected,
    Session(ToClient),
    Peer(PeerEvent),
    /// The client restarts ICE, and its ear has got to there.
    Restarting(Duration),
    Tick,
}

fn binary() -> Fault {
    Fault::invalid(
        "invalid_event",
        "A binary message came on a data channel; events are JSON objects, sent as text.",
    )
}

fn not_voxline() -> Fault {
    Fault::invalid(
        "invalid_event",
        "The data channels `voxline` and `voxline.timing` take `voxline.playout`, \
         `voxline.ping`, `voxline.stats`, `voxline.ack`, `voxline.heard`, \
         `voxline.token_ack` and `voxline.token_present`; OpenAI's events belong on `oai-events`.",
    )
    .at("type")
}
