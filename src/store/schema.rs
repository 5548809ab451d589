//! The tables as diesel sees them; the words for them are in `migrations/`.

/// Every table, in the order below: the ping tries them all after an operation has failed on one.
pub(super) const TABLES: &[&str] = &[
    "users",
    "password_parameters",
    "sessions",
    "session_sweeps",
    "revocations",
    "signing_keys",
    "master_keys",
    "login_failures",
    "audit_events",
    "audit_positions",
    "administrator_guard",
    "replicas",
    "write_probe",
    "feed_state",
    "schema_compatibility",
    "service_accounts",
    "service_keys",
    "service_directory",
    "mails",
    "totp_factors",
    "passkeys",
    "recovery_codes",
    "used_challenges",
];

diesel::table! {
    users (id) {
        id -> Text,
        email -> Text,
        email_key -> Text,
        display_name -> Text,
        password_hash -> Text,
        roles -> Text,
        email_verified_at -> Nullable<BigInt>,
        last_login_at -> Nullable<BigInt>,
        created_at -> BigInt,
        updated_at -> BigInt,
        disabled_at -> Nullable<BigInt>,
        session_epoch -> BigInt,
        email_identity -> Nullable<Text>,
        factor_kinds -> Nullable<Text>,
        import_mark -> Nullable<Text>,
    }
}

diesel::table! {
    password_parameters (parameters) {
        parameters -> Text,
        recorded_at -> BigInt,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        user_id -> Text,
        device_label -> Text,
        client_ip -> Text,
        user_agent -> Text,
        generation -> Integer,
        created_at -> BigInt,
        rotated_at -> BigInt,
        idle_expires_at -> BigInt,
        absolute_expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
        session_epoch -> Nullable<BigInt>,
        authenticated_at -> Nullable<BigInt>,
        authentication_methods -> Nullable<Text>,
        audiences -> Nullable<Text>,
        rotated_by_database_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    session_sweeps (user_id) {
        user_id -> Text,
        requested_at -> BigInt,
        covered_until -> BigInt,
        claimed_until -> BigInt,
    }
}

diesel::table! {
    revocations (id) {
        id -> Text,
        kind -> Text,
        subject -> Text,
        not_before -> BigInt,
        created_at -> BigInt,
        expires_at -> BigInt,
        position -> BigInt,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        ordinal -> Integer,
        algorithm -> Text,
        sealed_private_key -> Binary,
        sealed_by -> Integer,
        created_at -> BigInt,
        activates_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    master_keys (version) {
        version -> Integer,
        fingerprint -> Text,
    }
}

diesel::table! {
    login_failures (account) {
        account -> Text,
        failures -> Integer,
        retry_at -> BigInt,
        updated_at -> BigInt,
        user_id -> Nullable<Text>,
    }
}

diesel::table! {
    audit_events (id) {
        id -> Text,
        kind -> Text,
        actor_id -> Nullable<Text>,
        user_id -> Nullable<Text>,
        session_id -> Nullable<Text>,
        client_ip -> Text,
        request_id -> Text,
        created_at -> BigInt,
        version -> Integer,
        details -> Text,
        position -> Nullable<BigInt>,
    }
}

diesel::table! {
    audit_positions (id) {
        id -> Text,
        position -> BigInt,
    }
}

diesel::table! {
    administrator_guard (id) {
        id -> Text,
        changes -> BigInt,
    }
}

diesel::table! {
    replicas (id) {
        id -> Text,
        seen_at -> BigInt,
        outages -> Text,
    }
}

diesel::table! {
    write_probe (id) {
        id -> Text,
        pings -> BigInt,
        padding -> Text,
    }
}

diesel::table! {
    feed_state (id) {
        id -> Text,
        history -> Text,
        position -> BigInt,
    }
}

diesel::table! {
    schema_compatibility (id) {
        id -> Text,
        least_migration -> Text,
    }
}

diesel::table! {
    service_accounts (id) {
        id -> Text,
        name -> Text,
        display_name -> Text,
        roles -> Text,
        audiences -> Text,
        act_for_users_at -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        disabled_at -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    service_keys (id) {
        id -> Text,
        service_account_id -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    service_directory (id) {
        id -> Text,
        version -> BigInt,
        deleted_version -> BigInt,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(totp_factors -> users (user_id));
diesel::joinable!(passkeys -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(
    users,
    sessions,
    login_failures,
    totp_factors,
    passkeys
);

diesel::table! {
    mails (id) {
        id -> Text,
        kind -> Text,
        user_id -> Nullable<Text>,
        email -> Nullable<Text>,
        email_key -> Nullable<Text>,
        slot -> Nullable<Text>,
        request_id -> Text,
        client_ip -> Text,
        created_at -> BigInt,
        due_at -> BigInt,
        attempts -> Integer,
        done_at -> Nullable<BigInt>,
        failed_at -> Nullable<BigInt>,
        failure -> Text,
    }
}

diesel::table! {
    totp_factors (id) {
        id -> Text,
        user_id -> Text,
        sealed_secret -> Binary,
        sealed_by -> Integer,
        last_used_step -> BigInt,
        created_at -> BigInt,
        last_used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    passkeys (id) {
        id -> Text,
        user_id -> Text,
        credential_id -> Binary,
        public_key -> Binary,
        sign_count -> BigInt,
        backup_eligible -> Integer,
        backed_up -> Integer,
        aaguid -> Binary,
        transports -> Text,
        label -> Text,
        created_at -> BigInt,
        last_used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    recovery_codes (mac) {
        mac -> Text,
        user_id -> Text,
        key_version -> Integer,
        created_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    used_challenges (id) {
        id -> Text,
        tries -> Integer,
        used_at -> Nullable<BigInt>,
        expires_at -> BigInt,
    }
}
