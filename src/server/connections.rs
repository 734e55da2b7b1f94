//! TCP connections, with TLS or without: accepted up to a limit, served, and closed.
//!
//! **Invariants**
//! - An answer reaches its client also if the request was not read to its end.
//! - Nobody holds a connection for nothing: a client must shake hands and send a head in time, and
//!   take what it is sent.

use std::future::pending;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::server::tls::{Polite, Raw, Tls};

/// How long to wait when the system has no more sockets to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long answers may take once the relay is closing.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long a client may go on sending what nobody reads, once it was answered.
const LINGER: Duration = Duration::from_secs(2);

/// Where connections come from.
pub(crate) struct Ports {
    pub(crate) plain: TcpListener,
    pub(crate) tls: Option<Tls>,
}

impl Ports {
    /// Returns the next connection, and how to shake hands if it is one for TLS.
    async fn accept(&self) -> io::Result<(TcpStream, Option<TlsAcceptor>)> {
        let secured = async {
            match &self.tls {
                Some(tls) => tls.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            plain = self.plain.accept() => plain.map(|(stream, _)| (stream, None)),
            secured = secured => secured.map(|(stream, acceptor)| (stream, Some(acceptor))),
        }
    }
}

pub(crate) struct Connections {
    slots: Arc<Semaphore>,
    head_time: Duration,
    write_time: Duration,
}

impl Connections {
    pub(crate) fn new(most: usize, head_time: Duration, write_time: Duration) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(most)),
            head_time,
            write_time,
        }
    }

    /// Serves until `closing`; then lets answers finish, shortly.
    pub(crate) async fn serve(&self, ports: Ports, router: Router, closing: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned();
            let accepted = async { (slot.await, ports.accept().await) };
            let (slot, accepted) = tokio::select! {
                () = closing.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, acceptor)) => {
                    let served = self.serve_one(stream, acceptor, router.clone(), closing.clone());
                    tasks.spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "A connection could not be accepted");
                    sleep(EXHAUSTED).await;
                }
            }
        }
        let _ = timeout(LAST_ANSWERS, async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
        tasks.shutdown().await;
    }

    fn serve_one(
        &self,
        stream: TcpStream,
        acceptor: Option<TlsAcceptor>,
        router: Router,
        closing: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        // Small messages must not wait for the acknowledgement of the last one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let stream = Lingering::new(Impatient::new(stream, self.write_time));
        let head_time = self.head_time;
        async move {
            match acceptor {
                None => serve_http(stream, head_time, router, closing).await,
                Some(acceptor) => {
                    if let Some(stream) = shake_hands(stream, acceptor, head_time).await {
                        serve_http(stream, head_time, router, closing).await;
                    }
                }
            }
        }
    }
}

async fn shake_hands(
    stream: Lingering,
    acceptor: TlsAcceptor,
    limit: Duration,
) -> Option<Polite<Lingering>> {
    match timeout(limit, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => Some(Polite(stream)),
        Ok(Err((error, mut stream))) => {
            tracing::debug!(%error, "TLS handshake refused");
            let _ = stream.shutdown().await;
            None
        }
        Err(_) => {
            tracing::debug!(?limit, "TLS handshake took too long");
            None
        }
    }
}

async fn serve_http<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    head_time: Duration,
    router: Router,
    closing: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection ended early");
    }
}

/// A stream that breaks when its peer takes nothing of what is written for a set time.
struct Impatient {
    stream: TcpStream,
    limit: Duration,
    refused: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            refused: None,
        }
    }

    fn bounded(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.refused = None;
            return written;
        }
        let limit = self.limit;
        let refused = self.refused.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(refused.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A socket that is closed in two steps, as RFC 9112 (9.6) has it: no more is sent, and what still
/// arrives is read and forgotten. Whoever closes a socket with unread data on it takes back the
/// answer that was sent last.
struct Lingering {
    stream: Impatient,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    fn new(stream: Impatient) -> Self {
        Self {
            stream,
            deadline: None,
        }
    }
}

impl Raw for Lingering {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.stream.try_write(bytes)
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, deadline } = self.get_mut();
        let mut stream = Pin::new(stream);
        let deadline = match deadline {
            Some(deadline) => deadline,
            None => {
                ready!(stream.as_mut().poll_shutdown(context))?;
                deadline.insert(Box::pin(sleep(LINGER)))
            }
        };
        let mut scratch = [0; 4096];
        while deadline.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(stream.as_mut().poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
