//! A walk round a running server: `cargo run` in one terminal, `cargo run --example tour` in another.
//!
//! It registers, logs in, validates, loses a refresh response and asks again, plays the thief with an
//! old token, changes the password, and logs out, and fails loudly if an answer is not what the contract promises.

use std::error::Error;

use countersign::grpc::pb::{
    ChangePasswordRequest, ListSessionsRequest, LoginRequest, LogoutRequest, RefreshRequest,
    RegisterRequest, TokenPair, ValidateTokenRequest, account_service_client::AccountServiceClient,
    auth_service_client::AuthServiceClient,
};
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

type Outcome<T> = Result<T, Box<dyn Error>>;

const PASSWORD: &str = "a mill that weaves algebra";
const NEW_PASSWORD: &str = "an engine that dreams of looms";

#[tokio::main]
async fn main() -> Outcome<()> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    println!("Countersign at {address}\n");
    let channel = Endpoint::from_shared(address)?.connect().await?;
    let mut tour = Tour {
        client: AuthServiceClient::new(channel.clone()),
        account: AccountServiceClient::new(channel),
        email: format!("ada-{}@example.org", std::process::id()),
    };

    tour.register().await?;
    let first = tour.login("2. Log in").await?;
    tour.validate(&first).await?;
    let second = tour.lose_a_response(&first).await?;
    let stolen = first;
    let third = tour
        .refresh("5. Refresh again with the newest token", &second)
        .await?;
    tour.play_the_thief(&stolen, &third).await?;
    let fourth = tour.login("7. Log in again").await?;
    let last = tour.change_password(&fourth).await?;
    tour.list_sessions(&last).await?;
    tour.logout(&last).await?;
    println!("\nThat was the tour.");
    Ok(())
}

struct Tour {
    client: AuthServiceClient<Channel>,
    account: AccountServiceClient<Channel>,
    email: String,
}

impl Tour {
    async fn register(&mut self) -> Outcome<()> {
        println!("1. Register {}", self.email);
        let request = RegisterRequest {
            email: self.email.clone(),
            password: PASSWORD.to_owned(),
            display_name: "Ada Lovelace".to_owned(),
        };
        let user = self.client.register(request).await?.into_inner().user;
        println!("   user {}", user.ok_or("no user")?.user_id);
        let weak = RegisterRequest {
            email: self.email.clone(),
            password: "passwordpassword".to_owned(),
            display_name: String::new(),
        };
        let status = expect_failure(self.client.register(weak).await, "WEAK_PASSWORD")?;
        let details = status.get_error_details();
        let fields = details.bad_request().map(|bad| &bad.field_violations);
        for rule in fields.into_iter().flatten() {
            println!("   a weak password is refused: it {}", rule.description);
        }
        Ok(())
    }

    async fn login(&mut self, title: &str) -> Outcome<TokenPair> {
        println!("\n{title}");
        let request = LoginRequest {
            email: self.email.clone(),
            password: PASSWORD.to_owned(),
            device_label: "the tour".to_owned(),
            ..LoginRequest::default()
        };
        let tokens = self.client.login(request).await?.into_inner().tokens;
        let tokens = tokens.ok_or("no tokens")?;
        println!("   session {}", tokens.session_id);
        println!("   access token  {}", shortened(&tokens.access_token));
        println!("   refresh token {}", shortened(&tokens.refresh_token));
        Ok(tokens)
    }

    async fn validate(&mut self, tokens: &TokenPair) -> Outcome<()> {
        println!("\n3. Validate the access token, as a microservice does on every request");
        let claims = self
            .client
            .validate_token(validation(&tokens.access_token))
            .await?;
        println!("   good: user {}", claims.into_inner().user_id);
        let garbage = self.client.validate_token(validation("garbage")).await;
        expect_failure(garbage, "TOKEN_INVALID")?;
        println!("   garbage is refused: TOKEN_INVALID");
        Ok(())
    }

    async fn lose_a_response(&mut self, tokens: &TokenPair) -> Outcome<TokenPair> {
        let lost = self
            .refresh("4. Refresh, lose the response, ask again", tokens)
            .await?;
        let again = self.refresh("   The same token once more:", tokens).await?;
        if again.refresh_token != lost.refresh_token {
            return Err("a retry must get the same successor".into());
        }
        println!("   the same successor came back: nobody is logged out");
        Ok(again)
    }

    async fn refresh(&mut self, title: &str, tokens: &TokenPair) -> Outcome<TokenPair> {
        println!("\n{title}");
        let request = RefreshRequest {
            refresh_token: tokens.refresh_token.clone(),
            ..Default::default()
        };
        let next = self.client.refresh(request).await?.into_inner().tokens;
        let next = next.ok_or("no tokens")?;
        println!("   refresh token {}", shortened(&next.refresh_token));
        Ok(next)
    }

    async fn play_the_thief(&mut self, stolen: &TokenPair, newest: &TokenPair) -> Outcome<()> {
        println!("\n6. A thief presents the first refresh token, two rotations old");
        let request = RefreshRequest {
            refresh_token: stolen.refresh_token.clone(),
            ..Default::default()
        };
        expect_failure(self.client.refresh(request).await, "REFRESH_TOKEN_REUSED")?;
        println!("   REFRESH_TOKEN_REUSED: the session is revoked");
        let verdict = self
            .client
            .validate_token(validation(&newest.access_token))
            .await;
        expect_failure(verdict, "TOKEN_REVOKED")?;
        println!("   its newest access token is revoked as well: TOKEN_REVOKED");
        Ok(())
    }

    async fn change_password(&mut self, tokens: &TokenPair) -> Outcome<TokenPair> {
        println!("\n8. Change the password");
        let request = ChangePasswordRequest {
            current_password: PASSWORD.to_owned(),
            new_password: NEW_PASSWORD.to_owned(),
        };
        let request = bearing(tokens, request)?;
        let next = self.account.change_password(request).await?;
        let next = next.into_inner().tokens.ok_or("no tokens")?;
        println!("   session {}, with tokens of its own", next.session_id);
        let verdict = self
            .client
            .validate_token(validation(&tokens.access_token))
            .await;
        expect_failure(verdict, "TOKEN_REVOKED")?;
        println!("   every earlier token is revoked: TOKEN_REVOKED");
        Ok(next)
    }

    async fn list_sessions(&mut self, tokens: &TokenPair) -> Outcome<()> {
        println!("\n9. Look at the sessions of the account");
        let request = bearing(tokens, ListSessionsRequest::default())?;
        let sessions = self.account.list_sessions(request).await?;
        for session in sessions.into_inner().sessions {
            let current = if session.current { ", this one" } else { "" };
            println!(
                "   \"{}\" from {}{current}",
                session.device_label, session.client_ip
            );
        }
        Ok(())
    }

    async fn logout(&mut self, tokens: &TokenPair) -> Outcome<()> {
        println!("\n10. Log out");
        let request = LogoutRequest {
            refresh_token: tokens.refresh_token.clone(),
        };
        self.client.logout(request).await?;
        let verdict = self
            .client
            .validate_token(validation(&tokens.access_token))
            .await;
        expect_failure(verdict, "TOKEN_REVOKED")?;
        println!("   the access token is revoked with the session: TOKEN_REVOKED");
        Ok(())
    }
}

/// A request with a bearer token.
fn bearing<T>(tokens: &TokenPair, message: T) -> Outcome<Request<T>> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", tokens.access_token).parse()?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

fn validation(access_token: &str) -> ValidateTokenRequest {
    ValidateTokenRequest {
        access_token: access_token.to_owned(),
        ..ValidateTokenRequest::default()
    }
}

/// The failure that must have come, with the reason that a program decides by.
fn expect_failure<T>(outcome: Result<T, Status>, reason: &str) -> Outcome<Status> {
    let Err(status) = outcome else {
        return Err(format!("expected {reason}, but the call succeeded").into());
    };
    match status.get_details_error_info() {
        Some(info) if info.reason == reason => Ok(status),
        _ => Err(format!("expected {reason}, got {status}").into()),
    }
}

fn shortened(token: &str) -> String {
    format!(
        "…{} ({} characters)",
        &token[token.len() - 20..],
        token.len()
    )
}
