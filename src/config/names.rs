//! The names of variables: which are ours, which are typing errors, and what was probably meant.

use super::variables::{PREFIX, VARIABLES};

/// The field of [`Values`](super::variables::Values) that a variable fills, which envy turns into lower case.
pub(super) fn field_name(variable: &str) -> &str {
    variable.strip_prefix(PREFIX).unwrap_or(variable)
}

/// Whether a variable concerns us: ours by its prefix, or one of the declared `OTEL_` names.
pub(super) fn is_ours(name: &str) -> bool {
    let begins_like_ours = name
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    (begins_like_ours && !is_service_link(name)) || is_declared(name)
}

pub(super) fn is_declared(name: &str) -> bool {
    VARIABLES.iter().any(|variable| variable.name == name)
}

/// The declared name that `name` was probably meant to be: the nearest, if two thirds of it are right.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let tolerance = name.len().saturating_sub(PREFIX.len()) / 3;
    VARIABLES
        .iter()
        .map(|variable| (strsim::levenshtein(&name, variable.name), variable.name))
        .min()
        .filter(|(distance, _)| *distance <= tolerance)
        .map(|(_, nearest)| nearest)
}

/// Whether Kubernetes set this variable: it adds `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_443_TCP`
/// and so on to every pod, so a Service named `countersign` would otherwise stop the start.
pub(super) fn is_service_link(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let rest = format!("_{rest}");
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || rest.ends_with("_PORT")
        || rest
            .split("_PORT_")
            .skip(1)
            .any(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_the_variable_that_was_meant() {
        assert_eq!(nearest("COUNTERSIGN_ISUER"), Some("COUNTERSIGN_ISSUER"));
        assert_eq!(nearest("countersign_log"), Some("COUNTERSIGN_LOG"));
        assert_eq!(
            nearest("COUNTERSIGN_CREDENTIAL_BURST"),
            Some("COUNTERSIGN_CREDENTIAL_RATE_BURST")
        );
        assert_eq!(nearest("COUNTERSIGN_SOMETHING_ELSE_ENTIRELY"), None);
        assert_eq!(nearest("COUNTERSIGN_"), None);
    }

    #[test]
    fn only_the_names_that_kubernetes_sets_are_service_links() {
        for name in [
            "COUNTERSIGN_SERVICE_HOST",
            "COUNTERSIGN_SERVICE_PORT",
            "COUNTERSIGN_SERVICE_PORT_GRPC",
            "COUNTERSIGN_PORT",
            "COUNTERSIGN_PORT_50051_TCP",
            "COUNTERSIGN_PORT_50051_TCP_ADDR",
            "COUNTERSIGN_GRPC_SERVICE_HOST",
            "COUNTERSIGN_GRPC_PORT_443_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for variable in VARIABLES {
            assert!(!is_service_link(variable.name), "{}", variable.name);
        }
        assert!(!is_service_link("COUNTERSIGN_ISUER"));
    }
}
