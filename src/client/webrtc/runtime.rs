//! What the WebRTC library runs on: tokio, but a call's tasks belong to its leg, and its socket
//! is a share of the one port.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use crate::client::webrtc::mux::Port;
use crate::clock;

/// The tasks of one call. They end with it.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.set(|set| set.spawn(task))
    }

    /// Aborts every task, and waits until they are gone.
    pub(crate) async fn shutdown(&self) {
        let mut set = self.set(std::mem::take);
        set.shutdown().await;
    }

    fn set<T>(&self, act: impl FnOnce(&mut JoinSet<()>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The library's runtime for one call.
#[derive(Debug)]
pub(crate) struct LegRuntime {
    /// Weak, as the library's task in there holds its runtime.
    pub(crate) tasks: Weak<Tasks>,
    pub(crate) port: Arc<Port>,
    /// Cancelled when a task of the library ends, be it by a panic.
    pub(crate) gone: CancellationToken,
}

impl Runtime for LegRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        let gone = self.gone.clone().drop_guard();
        let task = self.tasks.upgrade().map(|tasks| {
            tasks.spawn(async move {
                let _gone = gone;
                future.await;
            })
        });
        Box::new(Task(task))
    }

    /// Gives the socket back to the system, and hands out a share of the one port instead.
    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket {
            local: socket.local_addr()?,
            port: Arc::clone(&self.port),
        }))
    }

    fn wrap_tcp_listener(
        &self,
        _listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect_tcp<'a>(
        &'a self,
        _remote: SocketAddr,
    ) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve_host<'a>(&'a self, _host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn now(&self) -> Instant {
        clock::now()
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn name(&self) -> &'static str {
        "voxline"
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// `None` if the call was gone before the task began.
struct Task(Option<AbortHandle>);

impl JoinHandle for Task {
    fn detach(&self) {}

    fn abort(&self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }

    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(AbortHandle::is_finished)
    }
}

#[derive(Debug)]
struct Socket {
    local: SocketAddr,
    port: Arc<Port>,
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.port.send(transmit.contents, transmit.destination);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        self.port.poll_receive(cx).map(|datagram| {
            let (from, datagram) = datagram.ok_or(io::ErrorKind::BrokenPipe)?;
            let size = datagram.len().min(buffer.len());
            buffer[..size].copy_from_slice(&datagram[..size]);
            *meta = RecvMeta::default();
            (meta.len, meta.stride, meta.addr) = (size, size.max(1), from);
            Ok(1)
        })
    }
}
