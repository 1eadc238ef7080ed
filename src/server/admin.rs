//! The token of the admin pages, read at the start.
//!
//! Not here: the pages ([`crate::shell::admin`]). Invariant: a token that was asked for is in
//! force, or the server does not start.

use super::error::StartError;
use crate::config::Settings;
use crate::limits::ADMIN_TOKEN_BYTES_MIN;

/// The token that requests must show, if the settings name one.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub(super) fn token(settings: &Settings) -> Result<Option<Box<str>>, StartError> {
    let Some(path) = &settings.admin_settings.token_file else { return Ok(None) };
    let failed = |reason: String| StartError::AdminToken { path: path.clone(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let token = text.trim();
    if token.len() < ADMIN_TOKEN_BYTES_MIN || token.contains(char::is_whitespace) {
        let reason = format!("it must hold one word of {ADMIN_TOKEN_BYTES_MIN} characters or more");
        return Err(failed(reason));
    }
    Ok(Some(token.into()))
}
