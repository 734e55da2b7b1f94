//! TLS, as clients meet it: real handshakes, on the relay's second port.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, crypto,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use voxline::config::{Config, Sources};
use voxline::server::{Server, write_certificate};

use crate::harness::{BEARER, MODEL, PATIENCE, Relay};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn http_is_served_over_tls_beside_plain_http() {
    let (relay, pair) = certified(&[]).await;
    for (version, spoken) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for name in ["localhost", "127.0.0.1", "::1"] {
            let client = trusting(&pair, version);
            let mut stream = shake_hands(&relay, client, name).await.unwrap();
            let (_, session) = stream.get_ref();
            assert_eq!(session.protocol_version(), Some(spoken));
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            stream.write_all(HEALTH).await.unwrap();
            // An end without a `close_notify` is an error of the reader's.
            let answer = rest(&mut stream).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    let plain = reqwest::get(relay.url("/healthz")).await.unwrap();
    assert_eq!(plain.status(), 200);
}

#[tokio::test]
async fn websockets_are_served_over_tls_and_closed_in_order() {
    let (relay, pair) = certified(&[]).await;
    let stream = shake_hands(&relay, trusting(&pair, &TLS13), "localhost").await;
    let url = format!("wss://localhost/v1/realtime?model={MODEL}");
    let mut request = url.into_client_request().unwrap();
    let bearer = BEARER.parse().unwrap();
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = client_async(request, stream.unwrap()).await.unwrap();
    let first = timeout(PATIENCE, socket.next()).await.unwrap();
    let Some(Ok(Message::Text(text))) = first else {
        panic!("{first:?}");
    };
    assert!(text.contains("session.created"), "{text}");
    socket.close(None).await.unwrap();
    while let Some(message) = timeout(PATIENCE, socket.next()).await.unwrap() {
        message.unwrap();
    }
    rest(socket.get_mut()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_good_for_its_own_names_only() {
    let (relay, pair) = certified(&[]).await;
    for name in ["relay.example", "127.0.0.2"] {
        let error = shake_hands(&relay, trusting(&pair, &TLS13), name).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("not valid for name"), "{error}");
    }
    assert_healthy(&relay, &pair).await;
}

#[tokio::test]
async fn without_files_a_certificate_is_made_at_the_start() {
    let relay = Relay::start(&[("tls.listen", "127.0.0.1:0")]).await;
    let seen = shown(&relay).await;
    let another = Relay::start(&[("tls.listen", "127.0.0.1:0")]).await;
    assert_ne!(seen, shown(&another).await);
}

#[tokio::test]
async fn what_is_not_tls_is_closed_without_harm() {
    let (relay, pair) = certified(&[]).await;
    let hello_of_ssl_2 = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10";
    let oversize = [&b"\x16\x03\x01\xff\xff"[..], &[0; 4096]].concat();
    for bytes in [HEALTH, b"\0\0\0\0\0\0\0\0", hello_of_ssl_2, &oversize] {
        let mut stream = TcpStream::connect(relay.tls.unwrap()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = vec![];
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("it ends").unwrap();
        assert!(answer.len() < 16, "{answer:?}");
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_healthy(&relay, &pair).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_the_connection() {
    let limits = [
        ("limits.request_time", "200ms"),
        ("limits.connections", "1"),
    ];
    let (relay, pair) = certified(&limits).await;
    for beginning in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(relay.tls.unwrap()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = vec![];
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        read.expect("it ends").unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_healthy(&relay, &pair).await;
}

#[tokio::test]
async fn one_limit_holds_for_connections_of_both_ports() {
    let (relay, pair) = certified(&[("limits.connections", "1")]).await;
    let mut first = TcpStream::connect(relay.address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    first.peek(&mut [0]).await.unwrap();
    let next = shake_hands(&relay, trusting(&pair, &TLS13), "localhost");
    let mut next = std::pin::pin!(next);
    let early = timeout(Duration::from_millis(200), next.as_mut()).await;
    assert!(early.is_err(), "it was served beside the first");
    drop(first);
    let served = timeout(PATIENCE, next).await;
    served.expect("its turn comes").unwrap();
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_whoever_connects_next() {
    let (relay, pair) = certified(&[("tls.reload", "100ms")]).await;
    let mut stays = shake_hands(&relay, trusting(&pair, &TLS13), "localhost")
        .await
        .unwrap();
    let first = shown(&relay).await;
    let newer = written();
    for name in ["certificate.pem", "key.pem"] {
        fs::copy(newer.path().join(name), pair.path().join(name)).unwrap();
    }
    let renewed = async { while shown(&relay).await == first {} };
    timeout(PATIENCE, renewed).await.expect("it is renewed");
    assert_healthy(&relay, &newer).await;
    stays.write_all(HEALTH).await.unwrap();
    let answer = rest(&mut stays).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_relay_with_a_certificate_that_cannot_be_used_does_not_start() {
    let (pair, other) = (written(), written());
    let file = |directory: &TempDir, name| directory.path().join(name);
    let certificate = file(&pair, "certificate.pem");
    let key = file(&pair, "key.pem");
    for (certificate, key, what) in [
        (
            &certificate,
            &file(&other, "key.pem"),
            "cannot be used with the key",
        ),
        (&certificate, &file(&other, "none.pem"), "cannot be read"),
        (&key, &key, "holds no certificate"),
        (&certificate, &certificate, "holds no private key"),
    ] {
        let flags = [
            ("listen", "127.0.0.1:0"),
            ("tls.listen", "127.0.0.1:0"),
            ("tls.certificate", certificate.to_str().unwrap()),
            ("tls.key", key.to_str().unwrap()),
        ];
        let config = Config::load(&Sources {
            flags: flags.map(|(name, text)| (name, text.to_owned())).into(),
            ..Sources::default()
        });
        let error = Server::bind(config.unwrap()).await.err().unwrap();
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// A relay with a certificate that was written for it.
async fn certified(settings: &[(&'static str, &str)]) -> (Relay, TempDir) {
    let pair = written();
    let (certificate, key) = (
        pair.path().join("certificate.pem"),
        pair.path().join("key.pem"),
    );
    let tls = [
        ("tls.listen", "127.0.0.1:0"),
        ("tls.certificate", certificate.to_str().unwrap()),
        ("tls.key", key.to_str().unwrap()),
    ];
    let relay = Relay::start(&[&tls, settings].concat()).await;
    (relay, pair)
}

fn written() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path(), &[]).unwrap();
    directory
}

/// A client that trusts the certificate in this directory and no other.
fn trusting(pair: &TempDir, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let certificate = CertificateDer::from_pem_file(pair.path().join("certificate.pem"));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.unwrap()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn shake_hands(
    relay: &Relay,
    client: ClientConfig,
    name: &'static str,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(relay.tls.unwrap()).await?;
    let name = ServerName::try_from(name).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let shaking = timeout(PATIENCE, connector.connect(name, stream)).await;
    shaking.expect("an answer comes")
}

/// Returns the certificate that a client is shown, whatever it is.
async fn shown(relay: &Relay) -> Vec<u8> {
    let provider = Arc::new(crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    let stream = shake_hands(relay, client, "localhost").await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn assert_healthy(relay: &Relay, pair: &TempDir) {
    let client = trusting(pair, &TLS13);
    let mut stream = shake_hands(relay, client, "localhost").await.unwrap();
    stream.write_all(HEALTH).await.unwrap();
    let answer = rest(&mut stream).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Reads to the end, which is an error unless the other side said that it is one.
async fn rest(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    let reading = timeout(PATIENCE, stream.read_to_string(&mut text)).await;
    reading.expect("an end comes")?;
    Ok(text)
}

/// Believes every certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
