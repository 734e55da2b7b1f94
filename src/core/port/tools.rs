//! Between a session and who carries out its tools.

use crate::core::ids::CallId;
use crate::core::item::Said;

/// Said to who carries out tools.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToTools {
    /// The model calls one of the relay's functions.
    Call {
        call: CallId,
        name: String,
        /// As the model wrote them, which should be a JSON object.
        arguments: Said,
    },
}

/// Said by who carries out tools.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromTools {
    /// What a call came to: JSON for the model, and if it failed why.
    Output { call: CallId, output: Said },
}
