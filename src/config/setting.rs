//! What a setting is: its names in the file, the environment and the command line, what it may be.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its path in the configuration file: `openai.base_url`.
    pub key: &'static str,
    /// What its value looks like.
    pub value: &'static str,
    /// Used where nothing else is said.
    pub default: Fallback,
    /// The least and the greatest value allowed.
    pub range: Option<(&'static str, &'static str)>,
    /// What it does, in full sentences.
    pub about: &'static str,
    /// A secret is never shown, and is no flag: other users of a machine can read flags.
    pub secret: bool,
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value.
    Value(&'static str),
    /// No value, which has this meaning.
    Unset(&'static str),
}

impl Setting {
    /// Returns its name in the environment.
    pub fn variable(&self) -> String {
        match self.key {
            // Names that others have made known.
            "openai.api_key" => "OPENAI_API_KEY".to_owned(),
            "otlp.endpoint" => "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
            "otlp.headers" => "OTEL_EXPORTER_OTLP_HEADERS".to_owned(),
            "otlp.service" => "OTEL_SERVICE_NAME".to_owned(),
            key => format!("VOXLINE_{}", key.replace('.', "_").to_uppercase()),
        }
    }

    /// Returns its name on the command line, without the two dashes.
    pub fn flag(&self) -> Option<String> {
        (!self.secret).then(|| self.key.replace(['.', '_'], "-"))
    }

    /// Tells whether it is one of the few that most people need.
    pub fn is_common(&self) -> bool {
        !self.key.contains('.')
    }
}
