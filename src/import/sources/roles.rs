//! Which roles of another system a user keeps.

use super::SourceOptions;
use crate::domain::Role;

/// The names that are kept: none unless asked for, none that opens our own services (a role of the same name elsewhere must
/// not), none that is no name of a role here.
pub(super) fn kept<'a>(
    names: impl IntoIterator<Item = &'a str>,
    options: SourceOptions,
) -> Vec<String> {
    if !options.keep_roles {
        return Vec::new();
    }
    let is_kept =
        |name: &&str| Role::parse(name).is_some_and(|role| !role.gives_access_to_countersign());
    names
        .into_iter()
        .filter(is_kept)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_kept_only_when_asked_for_and_never_those_that_open_our_own_services() {
        let names = [
            "editor",
            "admin",
            "verifier",
            "Two Words",
            "uma_authorization",
        ];
        let kept = |keep_roles| kept(names, SourceOptions { keep_roles });
        assert_eq!(kept(false), Vec::<String>::new());
        assert_eq!(kept(true), ["editor", "uma_authorization"]);
    }
}
