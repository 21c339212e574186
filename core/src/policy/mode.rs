//! Whether a policy decides.

use meshfilter_json::Deserialize;

/// `enforce` decides; `shadow` decides, counts and logs what it would have done, and changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Decide.
    #[default]
    Enforce,
    /// Only say what would have been decided.
    Shadow,
}

impl Mode {
    /// Its word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
        }
    }
}
