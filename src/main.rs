//! The command line.

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio_util::sync::CancellationToken;
use voxline::config::{self, Config, Fallback, SETTINGS, Setting, Sources};
use voxline::server::{self, Server};

/// What a start that fails for its configuration ends with; any other failure ends with 1.
const BAD_CONFIGURATION: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  voxline                                  serve on http://127.0.0.1:8080, no key needed
  OPENAI_API_KEY=sk-... voxline            the same, with OpenAI answering
  voxline --listen 0.0.0.0:8080 --public-addr 203.0.113.7
                                           serve the world; needs VOXLINE_API_KEY
  voxline --config voxline.toml            read a configuration file
  voxline config --show                    what is in effect, and where it comes from
  voxline config                           describe every setting
  voxline sim --listen 127.0.0.1:9090      the embedded provider alone, as a server

Environment:
  OPENAI_API_KEY           the key shown to OpenAI
  VOXLINE_API_KEY          the keys that clients may show, separated by commas
  VOXLINE_CONFIG           the configuration file
  VOXLINE_LISTEN, VOXLINE_UDP, VOXLINE_PUBLIC_ADDR, VOXLINE_OPENAI_BASE_URL, ...
                           every setting has a variable: `voxline config` lists them";

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks to the person who started it"
)]
fn main() -> ExitCode {
    let matches = command().get_matches();
    let done = match matches.subcommand() {
        Some(("config", matches)) if matches.get_flag("show") => {
            config::show(&sources(matches)).map_err(Failure::from)
        }
        Some(("config", _)) => Ok(config::reference()),
        Some(("sim", matches)) => sim(matches).map(|()| String::new()),
        Some((_, matches)) => serve(matches).map(|()| String::new()),
        None => serve(&matches).map(|()| String::new()),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("voxline: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
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
