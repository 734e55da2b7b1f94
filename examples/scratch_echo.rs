use axum::{
    Json, Router,
    extract::State,
    response::Html,
    routing::{get, post},
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use voxline::client::webrtc::{Endpoint, Settings};
use voxline::core::{
    audio::{Format, Frame},
    port::*,
};
#[derive(Clone)]
struct App {
    e: Arc<Endpoint>,
    log: Arc<Mutex<Vec<String>>>,
    n: Arc<std::sync::atomic::AtomicUsize>,
}
async fn offer(
    State(a): State<App>,
    Json(v): Json<serde_json::Value>,
) -> Result<Json<serde_json::Value>, (axum::http::StatusCode, String)> {
    let t = std::time::Instant::now();
    let (sdp, leg) =
        a.e.answer(v["sdp"].as_str().unwrap())
            .await
            .map_err(|e| (axum::http::StatusCode::BAD_REQUEST, e.to_string()))?;
    let ms = t.elapsed().as_secs_f64() * 1e3;
    let (up_tx, mut up) = mpsc::channel(64);
    let (down, down_rx) = mpsc::channel(64);
    let log = a.log.clone();
    let rec = Arc::new(move |s: voxline::core::latency::Sample| {
        log.lock()
            .unwrap()
            .push(format!("{:?} {:?}", s.hop, s.took))
    });
    let log = a.log.clone();
    let n = a.n.clone();
    n.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    tokio::spawn(async move {
        let t = std::time::Instant::now();
        let e = leg.run(up_tx, down_rx, rec, CancellationToken::new()).await;
        log.lock()
            .unwrap()
            .push(format!("END {e:?} after {:?}", t.elapsed()));
        n.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    });
    let log = a.log.clone();
    tokio::spawn(async move {
        let mut pos = Duration::ZERO;
        let mut n = 0;
        let mut maxd = Duration::ZERO;
        let mut sum = Duration::ZERO;
        while let Some(m) = up.recv().await {
            match m {
                FromClient::Audio { payload, received } => {
                    n += 1;
                    let d = received.elapsed();
                    sum += d;
                    maxd = maxd.max(d);
                    if n % 200 == 0 {
                        log.lock().unwrap().push(format!(
                            "audio {n} frames, received->session mean {:?} max {maxd:?}",
                            sum / n
                        ));
                    }
                    if down
                        .send(ToClient::Play {
                            frame: Frame {
                                format: Format::Pcm,
                                payload,
                            },
                            position: pos,
                            due: voxline::clock::now(),
                        })
                        .await
                        .is_err()
                    {
                        break;
                    }
                    pos += Duration::from_millis(20);
                }
                FromClient::Event(_, j) => {
                    if down.send(ToClient::Event(j)).await.is_err() {
                        break;
                    }
                }
                other => log.lock().unwrap().push(format!("{other:?}")),
            }
        }
    });
    Ok(Json(serde_json::json!({"id": 1, "sdp": sdp, "ms": ms})))
}
#[tokio::main]
async fn main() {
    voxline::telemetry::start_log(&std::env::var("RUST_LOG").unwrap_or("info".into()), false);
    let e = Endpoint::bind(Settings {
        listen: std::env::var("UDP")
            .unwrap_or("0.0.0.0:0".into())
            .parse()
            .unwrap(),
        ..Default::default()
    })
    .unwrap();
    eprintln!("{:?}", e.addresses());
    let a = App {
        e,
        log: Default::default(),
        n: Default::default(),
    };
    let r = Router::new().route("/", get(|| async { Html("<!doctype html><title>x</title>ok") })).route("/offer", post(offer))
        .route("/stats", get(|State(a): State<App>| async move { Json(serde_json::json!({"live": a.n.load(std::sync::atomic::Ordering::SeqCst), "log": a.log.lock().unwrap().iter().rev().take(12).cloned().collect::<Vec<_>>()})) })).with_state(a);
    let l = tokio::net::TcpListener::bind("127.0.0.1:9411")
        .await
        .unwrap();
    axum::serve(l, r).await.unwrap();
}
