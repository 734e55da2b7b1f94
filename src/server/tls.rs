//! TLS: a port of its own, and the certificate that is shown there.
//!
//! **Invariants**
//! - A certificate that cannot be used never replaces one that can.
//! - Whoever is left without an answer knows that there is none: a connection is closed in words
//!   of TLS (`close_notify`), however it ends.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::config::{self, CertificateFiles};
use crate::server::certificate::{CertificateError, Pem, SelfSigned};
use crate::server::{StartError, unbound};

/// A port where TLS is spoken.
pub(crate) struct Tls {
    listener: TcpListener,
    local_addr: SocketAddr,
    fingerprint: Option<String>,
    acceptor: watch::Receiver<TlsAcceptor>,
    _reload: JoinSet<()>,
}

impl Tls {
    pub(crate) async fn bind(settings: &config::Tls) -> Result<Self, StartError> {
        let refuse = |source| unbound(settings.listen, "TCP", "--tls-listen", source);
        let mut reload = JoinSet::new();
        let (acceptor, fingerprint) = match &settings.files {
            Some(files) => {
                let watched = Watched::read(files.clone()).await?;
                let (sender, acceptor) = watch::channel(watched.acceptor.clone());
                reload.spawn(watched.follow(settings.reload, sender));
                (acceptor, None)
            }
            None => {
                let made = SelfSigned::new(&[], clock::wall())?;
                let (_, acceptor) = watch::channel(made.configure().into());
                (acceptor, Some(made.fingerprint()))
            }
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(refuse)?;
        Ok(Self {
            local_addr: listener.local_addr().map_err(refuse)?,
            listener,
            fingerprint,
            acceptor,
            _reload: reload,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the digest of a certificate that was made at the start.
    pub(crate) fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Returns the next connection, and how to shake hands on it.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, TlsAcceptor)> {
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, self.acceptor.borrow().clone()))
    }
}

/// A certificate whose files may change.
struct Watched {
    files: CertificateFiles,
    acceptor: TlsAcceptor,
    /// What was seen last, or what was wrong with it.
    seen: Result<Vec<u8>, String>,
}

impl Watched {
    async fn read(files: CertificateFiles) -> Result<Self, CertificateError> {
        let pem = read(&files).await?;
        Ok(Self {
            acceptor: pem.parse(&files)?.into(),
            seen: Ok(pem.digest()),
            files,
        })
    }

    async fn follow(mut self, interval: Duration, sender: watch::Sender<TlsAcceptor>) {
        loop {
            sleep(interval).await;
            let read = read(&self.files).await;
            let seen = read.as_ref().map(Pem::digest).map_err(ToString::to_string);
            if seen == self.seen {
                continue;
            }
            self.seen = seen;
            let certificate = self.files.certificate.display();
            match read.and_then(|pem| pem.parse(&self.files)) {
                Ok(config) => {
                    sender.send_replace(config.into());
                    tracing::info!(%certificate, "Certificate renewed");
                }
                Err(error) => {
                    tracing::error!(%error, "Certificate refused; the one before it stays");
                }
            }
        }
    }
}

async fn read(files: &CertificateFiles) -> Result<Pem, CertificateError> {
    let files = files.clone();
    let reading = spawn_blocking(move || Pem::read(&files)).await;
    reading.expect("reading files does not panic, and nobody stops it")
}

/// A stream that says goodbye also when it is dropped, as WebSockets are.
pub(crate) struct Polite<T: Raw>(pub(crate) TlsStream<T>);

/// What bytes can be sent on without waiting.
pub(crate) trait Raw {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl<T: Raw> Drop for Polite<T> {
    fn drop(&mut self) {
        let (stream, session) = self.0.get_mut();
        session.send_close_notify();
        let mut bytes = vec![];
        while session.wants_write() && session.write_tls(&mut bytes).is_ok() {}
        // Where there is no room for it nobody is reading.
        let _ = stream.try_write(&bytes);
    }
}

impl<T: AsyncRead + AsyncWrite + Raw + Unpin> AsyncRead for Polite<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Raw + Unpin> AsyncWrite for Polite<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_cannot_be_used_replaces_none_that_can() {
        let (used, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = write(used.path());
        let newer = write(other.path());
        let watched = Watched::read(files.clone()).await.unwrap();
        let (sender, mut shown) = watch::channel(watched.acceptor.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(watched.follow(INTERVAL, sender));
        let mut is_renewed = async || {
            sleep(INTERVAL * 2).await;
            let is_changed = shown.has_changed().unwrap();
            shown.mark_unchanged();
            is_changed
        };
        assert!(!is_renewed().await, "nothing changed");
        fs::copy(&newer.certificate, &files.certificate).unwrap();
        assert!(!is_renewed().await, "the key is still the other one's");
        fs::write(&files.certificate, "no certificate").unwrap();
        assert!(!is_renewed().await, "there is nothing to show");
        fs::remove_file(&files.certificate).unwrap();
        assert!(!is_renewed().await, "there is nothing to read");
        fs::copy(&newer.certificate, &files.certificate).unwrap();
        fs::copy(&newer.key, &files.key).unwrap();
        assert!(is_renewed().await, "both are there");
        assert!(!is_renewed().await, "and stay");
    }

    fn write(directory: &Path) -> CertificateFiles {
        SelfSigned::new(&[], clock::wall())
            .and_then(|made| made.write(directory))
            .unwrap()
    }
}
