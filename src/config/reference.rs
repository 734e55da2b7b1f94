//! Tells people what can be set, and what is.

use std::fmt::Write;

use crate::auth;
use crate::config::layers::{self, Entry};
use crate::config::setting::{Fallback, Setting};
use crate::config::settings::SETTINGS;
use crate::config::{Config, ConfigError, FILE_VARIABLE, Origin, Sources};

/// Describes every setting, in Markdown: `docs/CONFIGURATION.md`.
pub fn reference() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         Every setting can be given in a TOML file, in the environment, and, unless it is a \
         secret, as a flag. Flags win over the environment, the environment over the file. The \
         file is the one named by `--config` or `{FILE_VARIABLE}`; there is none by default. An \
         unknown key, flag or `VOXLINE_` variable is an error. `voxline config --show` prints \
         what is in effect, and where each value comes from.\n\n\
         This page is printed by `voxline config`.\n"
    );
    for setting in SETTINGS {
        describe(&mut page, setting);
    }
    page.push_str(EXAMPLE);
    let _ = write!(page, "{TENANTS}\n```toml\n{}```\n", auth::TENANTS_EXAMPLE);
    page
}

const EXAMPLE: &str = r#"
## A file

```toml
listen = "0.0.0.0:8080"
public_addr = "203.0.113.7"
api_key = ["the-key-of-the-website", "the-key-of-the-app"]

[openai]
model = "gpt-realtime-2.1-mini"

[limits]
sessions = 50
drain = "30s"
```
"#;

const TENANTS: &str = "
## Tenants

Those who share a relay are its tenants. Each has API keys and limits of its own in the file that
`tenants` names; a limit that is left out is the relay's. `voxline api-key` makes a key: the tenant
gets the key, and the file its digest. The keys of `api_key` are those of the tenant `default`,
which may have limits (and further keys) here as well. A tenant that is taken out of the file is
shut out, its tokens too, and its conversations end.
";

fn describe(page: &mut String, setting: &Setting) {
    let default = match setting.default {
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Unset(meaning) => meaning.to_owned(),
    };
    let flag = setting.flag().map(|flag| format!(" · flag `--{flag}`"));
    let range = setting
        .range
        .map(|(least, greatest)| format!(" · from `{least}` to `{greatest}`"));
    let _ = write!(
        page,
        "\n## `{key}`\n\n{about}\n\n`{value}` · default {default}{range} · variable `{variable}`{flag}\n",
        key = setting.key,
        about = setting.about,
        value = setting.value,
        range = range.unwrap_or_default(),
        variable = setting.variable(),
        flag = flag.unwrap_or_default(),
    );
}

/// Shows what is in effect, as a configuration file that says where each value comes from.
pub fn show(sources: &Sources) -> Result<String, ConfigError> {
    let entries = layers::collect(sources)?;
    Config::read(&entries)?;
    let mut page = String::new();
    let mut section = "";
    for setting in SETTINGS {
        let (inside, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if inside != section {
            let _ = writeln!(page, "\n[{inside}]");
            section = inside;
        }
        let (line, origin) = effective(setting, name, entries.get(setting.key));
        let _ = writeln!(page, "{line:<40} # {origin}");
    }
    Ok(page)
}

fn effective(setting: &Setting, name: &str, entry: Option<&Entry>) -> (String, String) {
    let quote = |text: &str| {
        if setting.value == "COUNT" {
            text.to_owned()
        } else {
            toml::Value::from(text).to_string()
        }
    };
    match (entry, setting.default) {
        (Some(entry), _) if setting.secret => {
            (format!("# {name} = (hidden)"), entry.origin.to_string())
        }
        (Some(entry), _) => (
            format!("{name} = {}", quote(&entry.texts.concat())),
            entry.origin.to_string(),
        ),
        (None, Fallback::Value(text)) => (
            format!("{name} = {}", quote(text)),
            Origin::Default.to_string(),
        ),
        (None, Fallback::Unset(meaning)) => (
            format!("# {name}"),
            format!("{}: {meaning}", Origin::Default),
        ),
    }
}
