//! The command line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use voxline::auth::{self, FileError, KeyDigest};
use voxline::clock;
use voxline::config::{self, Config, Fallback, Provider, SETTINGS, Setting, Sources};
use voxline::diagnosis::Level;
use voxline::doctor;
use voxline::server::{self, Server};

/// What a start that fails for its configuration ends with; any other failure ends with 1.
const BAD_CONFIGURATION: u8 = 2;

const VERSION: &str = env!("CARGO_PKG_VERSION");

const EXAMPLES: &str = "\
Examples:
  voxline                                  serve on http://127.0.0.1:8080, no key needed
  OPENAI_API_KEY=sk-... voxline            the same, with OpenAI answering
  voxline --listen 0.0.0.0:8080 --public-addr 203.0.113.7
                                           serve the world; needs VOXLINE_API_KEY
  voxline --config voxline.toml            read a configuration file
  voxline config --show                    what is in effect, and where it comes from
  voxline config                           describe every setting
  voxline doctor                           check this host and its configuration
  voxline doctor --url http://127.0.0.1:8080 --session sess_...
                                           see what is wrong with a session
  voxline sim --listen 127.0.0.1:9090      the embedded provider alone, as a server
  voxline api-key                          make a key for a tenant
  voxline signing-key /etc/voxline/keys    make a key that signs tokens
  voxline --tls-listen 127.0.0.1:8443      TLS too, with a certificate made for this run
  voxline certificate tls                  make a lasting one, for clients to trust

Environment:
  OPENAI_API_KEY           the key shown to OpenAI
  VOXLINE_API_KEY          the keys that clients may show, separated by commas
  VOXLINE_CONFIG           the configuration file
  VOXLINE_LISTEN, VOXLINE_UDP, VOXLINE_PUBLIC_ADDR, VOXLINE_OPENAI_BASE_URL, ...
                           every setting has a variable: `voxline config` lists them";

fn main() -> ExitCode {
    let matches = command().get_matches();
    let done = match matches.subcommand() {
        Some(("config", matches)) if matches.get_flag("show") => {
            config::show(&sources(matches)).map_err(Failure::from)
        }
        Some(("config", _)) => Ok(config::reference()),
        Some(("sim", matches)) => sim(matches).map(|()| String::new()),
        Some(("doctor", matches)) => doctor(matches),
        Some(("api-key", _)) => Ok(api_key()),
        Some(("signing-key", matches)) => signing_key(matches),
        Some(("certificate", matches)) => certificate(matches),
        Some((_, matches)) => serve(matches).map(|()| String::new()),
        None => serve(&matches).map(|()| String::new()),
    };
    match done {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(io::stderr(), "voxline: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Prints for the person who started the program, who may have stopped reading.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Why the program ends before its time.
struct Failure {
    message: String,
    code: u8,
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        Self {
            message: error.to_string(),
            code: BAD_CONFIGURATION,
        }
    }
}

impl From<server::StartError> for Failure {
    fn from(error: server::StartError) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
        }
    }
}

impl From<server::CertificateError> for Failure {
    fn from(error: server::CertificateError) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
        }
    }
}

impl From<doctor::RemoteError> for Failure {
    fn from(error: doctor::RemoteError) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            message: error.to_string(),
            code: 1,
        }
    }
}

fn command() -> Command {
    let flags: Vec<Arg> = SETTINGS.iter().filter_map(flag).collect();
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("The configuration file (TOML). [variable: VOXLINE_CONFIG]");
    let show = Arg::new("show")
        .long("show")
        .action(ArgAction::SetTrue)
        .help("Print what is in effect, and where each value comes from; secrets stay hidden.");
    let listen = Arg::new("sim-listen")
        .long("listen")
        .value_name("ADDRESS")
        .default_value("127.0.0.1:9090")
        .value_parser(clap::value_parser!(SocketAddr))
        .help("Where to serve the Realtime API; port 0 takes any free port.");
    let directory = Arg::new("directory")
        .required(true)
        .value_name("DIR")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Where to write certificate.pem and key.pem; nothing there is replaced.");
    let name = Arg::new("name")
        .long("name")
        .value_name("NAME")
        .action(ArgAction::Append)
        .help("A further name or address of this machine, beside localhost, 127.0.0.1 and ::1.");
    Command::new("voxline")
        .version(VERSION)
        .about("A realtime voice relay that keeps the conversation going")
        .after_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .arg(&file)
        .args(&flags)
        .subcommand(
            Command::new("serve")
                .about("Serve the relay, its API and its page (the default)")
                .arg(&file)
                .args(&flags),
        )
        .subcommand(
            Command::new("sim")
                .about("Serve the embedded provider alone, for other programs to talk to")
                .arg(&file)
                .arg(listen)
                .args(flags.iter().filter(|flag| {
                    let key = flag.get_id().as_str();
                    key.starts_with("sim.") || key.starts_with("log.")
                })),
        )
        .subcommand(doctor_command().arg(&file).args(&flags))
        .subcommand(Command::new("api-key").about("Make an API key for a tenant"))
        .subcommand(
            Command::new("signing-key")
                .about("Write a new key for signing tokens into a directory")
                .arg(
                    Arg::new("directory")
                        .value_name("DIRECTORY")
                        .required(true)
                        .help("The directory that `tokens.keys` names; made if there is none."),
                ),
        )
        .subcommand(
            Command::new("certificate")
                .about("Make a TLS certificate for development, and its key")
                .arg(directory)
                .arg(name),
        )
        .subcommand(
            Command::new("config")
                .about("Describe every setting, or show what is in effect")
                .arg(show)
                .arg(file)
                .args(flags),
        )
}

fn doctor_command() -> Command {
    Command::new("doctor")
        .about("Find out what is wrong, with this host or with a session of a relay that runs")
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("A relay that runs: list its sessions, or show one of them."),
        )
        .arg(
            Arg::new("session")
                .long("session")
                .value_name("ID")
                .requires("url")
                .help("The session to show."),
        )
        .arg(
            Arg::new("admin-key")
                .long("admin-key")
                .value_name("KEY")
                .requires("url")
                .help(
                    "The relay's admin key. Other users of this machine can read flags: rather \
                     set VOXLINE_ADMIN_KEY.",
                ),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON."),
        )
}

/// Makes the flag of a setting; the less common ones show in `--help` and not in `-h`.
fn flag(setting: &'static Setting) -> Option<Arg> {
    let default = match setting.default {
        Fallback::Value(value) => value,
        Fallback::Unset(meaning) => meaning,
    };
    let flag = setting.flag()?;
    let variable = setting.variable();
    let help = format!(
        "{} [variable: {variable}] [default: {default}]",
        setting.about
    );
    let arg = Arg::new(setting.key)
        .long(flag)
        .value_name(setting.value)
        .hide_short_help(!setting.is_common())
        .help(help);
    Some(arg)
}

fn sources(matches: &ArgMatches) -> Sources {
    let given = |setting: &'static Setting| {
        let text = matches.try_get_one::<String>(setting.key).ok()??;
        Some((setting.key, text.clone()))
    };
    let variables = std::env::vars_os().map(|(name, text)| {
        let text = text.to_string_lossy().into_owned();
        (name.to_string_lossy().into_owned(), text)
    });
    Sources {
        file: matches.get_one::<String>("config").map(Into::into),
        environment: variables.collect(),
        flags: SETTINGS.iter().filter_map(given).collect(),
    }
}

fn serve(matches: &ArgMatches) -> Result<(), Failure> {
    let config = Config::load(&sources(matches))?;
    server::start_log(&config.log);
    Runtime::new()?.block_on(async {
        let server = Server::bind(config).await?;
        until_stopped(|stop| {
            say(&welcome(&server));
            server.run(stop)
        })
        .await?;
        Ok(())
    })
}

fn sim(matches: &ArgMatches) -> Result<(), Failure> {
    let config = Config::load(&sources(matches))?;
    server::start_log(&config.log);
    let listen = *matches
        .get_one::<SocketAddr>("sim-listen")
        .expect("the flag has a default");
    Runtime::new()?.block_on(async {
        let sim = server::bind_sim(listen, &config)?;
        let address = sim.local_addr()?;
        until_stopped(|stop| async {
            say(&format!(
                "voxline {VERSION} sim\n  API       http://{address}/v1/realtime, for any key\n"
            ));
            if let Err(error) = sim.run(stop).await {
                tracing::error!(%error, "The embedded provider is gone");
            }
        })
        .await?;
        Ok(())
    })
}

fn doctor(matches: &ArgMatches) -> Result<String, Failure> {
    let text = |name| matches.get_one::<String>(name);
    let as_json = matches.get_flag("json");
    let runtime = Runtime::new()?;
    if let Some(url) = text("url") {
        let variable = std::env::var("VOXLINE_ADMIN_KEY").ok();
        let key = text("admin-key").cloned().or(variable);
        let admin = doctor::Admin {
            url: url.clone(),
            key: key.unwrap_or_default(),
        };
        let session = text("session").map(String::as_str);
        return Ok(runtime.block_on(doctor::inspect(&admin, session, as_json))?);
    }
    let checkup = runtime.block_on(doctor::examine(Config::load(&sources(matches))));
    say(&if as_json {
        serde_json::to_string_pretty(&checkup).map_err(io::Error::from)? + "\n"
    } else {
        checkup.to_text()
    });
    if checkup.level == Level::Fail {
        return Err(Failure {
            message: "something is wrong; the report says what to do".to_owned(),
            code: 1,
        });
    }
    Ok(String::new())
}

fn api_key() -> String {
    let key = auth::new_api_key();
    format!(
        "{key}\n\nThe key shows only now. The relay needs just its digest, in the file of \
         tenants:\n\n[tenant.NAME]\napi_keys = [\"{}\"]\n",
        KeyDigest::of(&key)
    )
}

fn signing_key(matches: &ArgMatches) -> Result<String, Failure> {
    let directory = matches
        .get_one::<String>("directory")
        .expect("the argument is required");
    let (path, kid) = auth::write_signing_key(directory.as_ref(), clock::wall())?;
    Ok(format!("{}\n  key id  {kid}\n", path.display()))
}

fn certificate(matches: &ArgMatches) -> Result<String, Failure> {
    let directory: &PathBuf = matches.get_one("directory").expect("it is required");
    let names: Vec<String> = matches
        .get_many("name")
        .map_or_else(Vec::new, |names| names.cloned().collect());
    let files = server::write_certificate(directory, &names)?;
    let (certificate, key) = (files.certificate.display(), files.key.display());
    Ok(format!(
        "{certificate}\n{key}\n\n\
         Serve with them:   voxline --tls-listen 127.0.0.1:8443 --tls-certificate {certificate} \
         --tls-key {key}\n\
         Trust in Node.js:  NODE_EXTRA_CA_CERTS={certificate}\n\
         Trust in Python:   SSL_CERT_FILE={certificate}\n"
    ))
}

/// Tells where the relay is and how to use it. The first address is that of the page.
fn welcome(server: &Server) -> String {
    let address = server.local_addr();
    let config = server.config();
    let mut text = format!(
        "voxline {VERSION}\n  \
           page      http://{address}/\n  \
           latency   http://{address}/dashboard\n  \
           API       http://{address}/v1/realtime (WebSocket), /v1/realtime/calls (WebRTC)\n"
    );
    if let Some(address) = server.tls_addr() {
        text += &format!("  TLS       https://{address}/, wss://{address}/v1/realtime\n");
    }
    if let Some(fingerprint) = server.tls_fingerprint() {
        text += &format!("  signed    by itself, for this run; SHA-256 {fingerprint}\n");
    }
    for address in server.media_addrs() {
        text += &format!("  media     udp {address}\n");
    }
    text += &match &config.provider {
        Provider::Embedded => "  provider  embedded: a line-test agent inside the relay \
                               (OPENAI_API_KEY=sk-... for OpenAI)\n"
            .to_owned(),
        Provider::OpenAi { base_url, .. } => format!("  provider  {}\n", base_url.as_str()),
    };
    text += &match &config.development_key {
        Some(key) => format!(
            "  key       {} (for this run; VOXLINE_API_KEY sets a lasting one)\n",
            key.expose()
        ),
        None => "  key       as configured\n".to_owned(),
    };
    text
}

/// Runs until SIGTERM or Ctrl-C asks for an end, and on the second one ends at once. Whoever reads
/// what `serve` says first may already ask.
async fn until_stopped<F: Future<Output = ()>>(
    serve: impl FnOnce(CancellationToken) -> F,
) -> io::Result<()> {
    let stop = CancellationToken::new();
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut asked = async || {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
    };
    let twice = async {
        asked().await;
        stop.cancel();
        asked().await;
    };
    tokio::select! {
        () = serve(stop.clone()) => {}
        () = twice => {}
    }
    Ok(())
}
