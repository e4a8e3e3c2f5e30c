//! Secrets: taken from the environment or a file, never from the configuration or the command line, never printed.

use std::path::Path;

/// Whether a property of librdkafka holds a secret.
pub(super) fn is_secret(property: &str) -> bool {
    let name = property.to_ascii_lowercase();
    ["password", "secret", "key.pem", "jaas", "oauthbearer.config"].iter().any(|word| name.contains(word))
}

/// Whether a setting of an object store holds a secret.
pub(super) fn is_store_secret(setting: &str) -> bool {
    let name = setting.to_ascii_lowercase();
    ["secret", "token", "access_key", "password"].iter().any(|word| name.contains(word)) && !name.ends_with("_file")
}

/// Whether a URL holds a name or a password before its host.
pub(super) fn holds_login(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
}

/// The secret that an environment variable holds.
pub(super) fn from_env(name: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(secret) if !secret.is_empty() => Ok(secret),
        Ok(_) => Err(format!("the environment variable {name} is empty: it should hold the secret")),
        Err(_) => Err(format!("the environment variable {name} is not set: it should hold the secret")),
    }
}

/// The secret that a file holds, without the line's end.
pub(super) fn from_file(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("{} is empty: it should hold the secret", file.display())),
        secret => Ok(secret.to_owned()),
    }
}

/// The value of a property that may be a secret, given as `env:NAME` or `file:PATH`.
pub(super) fn look_up(property: &str, value: &str) -> Result<String, String> {
    if let Some(name) = value.strip_prefix("env:") {
        return from_env(name);
    }
    if let Some(file) = value.strip_prefix("file:") {
        return from_file(Path::new(file));
    }
    if is_secret(property) {
        return Err(format!("`{property}` is a secret: write \"env:NAME\" or \"file:PATH\", and keep it there"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_taken_in_clear() {
        let error = look_up("sasl.oauthbearer.client.secret", "hunter2").unwrap_err();
        assert!(error.contains("client.secret") && !error.contains("hunter2"), "{error}");
        assert_eq!(look_up("client.id", "fink").unwrap(), "fink");
        assert!(is_store_secret("aws_secret_access_key") && is_store_secret("aws_access_key_id") && !is_store_secret("aws_region"));
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "pass word\n").unwrap();
        assert_eq!(look_up("client.secret", &format!("file:{}", file.display())).unwrap(), "pass word");
        std::fs::write(&file, "\n").unwrap();
        assert!(from_file(&file).is_err());
    }
}
