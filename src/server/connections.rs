//! TCP connections: accepted up to a limit, served, and closed.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long to wait when the system has no more sockets to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long answers may take once the relay is closing.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

pub(crate) struct Connections {
    slots: Arc<Semaphore>,
    head_time: Duration,
}

impl Connections {
    pub(crate) fn new(most: usize, head_time: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(most));
        Self { slots, head_time }
    }

    /// Serves until `closing`; then lets answers finish, shortly.
    pub(crate) async fn serve(
        &self,
        listener: TcpListener,
        router: Router,
        closing: CancellationToken,
    ) {
        let mut tasks = JoinSet::new();
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned();
            let accepted = async { (slot.await, listener.accept().await) };
            let (slot, accepted) = tokio::select! {
                () = closing.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let served = self.serve_one(stream, router.clone(), closing.clone());
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
        router: Router,
        closing: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        // Small messages must not wait for the acknowledgement of the last one.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_time)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .with_upgrades();
        async move {
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
    }
}
