//! The outbox: mails that are to be sent, sent, or given up. (`failed` lists the last.)
//!
//! A row is claimed by moving its next attempt beyond the time that one attempt may take, judged by the attempts counted
//! so far: of two replicas one changes the row. The same number guards what is written after an attempt that failed.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};

use crate::{
    clock::Timestamp,
    domain::{Email, MailKind, NewMail, Recipient, uuid_v7},
    store::{
        AuditEvent, Store, StoreError,
        ids::parse_user_id,
        read,
        schema::{audit_events, mails},
        write,
    },
};

/// How many mails one claim takes.
const CLAIM: i64 = 8;

/// A mail that this process has claimed.
#[derive(Clone, Debug)]
pub struct ClaimedMail {
    /// The id of the row; also names the mail (`Message-ID`).
    pub id: String,
    /// What it is about.
    pub kind: MailKind,
    /// Whom it is for.
    pub recipient: Recipient,
    /// The request that caused it.
    pub request_id: String,
    /// Where that came from, as text.
    pub client_ip: String,
    /// When it was queued.
    pub created_at: Timestamp,
    /// Attempts, this one included, and without those that no server judged.
    pub attempts: i32,
}

#[derive(Insertable)]
#[diesel(table_name = mails)]
pub(in crate::store) struct NewMailRow {
    pub(in crate::store) id: String,
    kind: &'static str,
    user_id: Option<String>,
    email: Option<String>,
    email_key: Option<String>,
    slot: Option<String>,
    pub(in crate::store) request_id: String,
    pub(in crate::store) client_ip: String,
    created_at: i64,
    due_at: i64,
    attempts: i32,
    failure: &'static str,
}

impl NewMailRow {
    pub(in crate::store) fn of(mail: &NewMail) -> Self {
        let (user_id, email) = match &mail.recipient {
            Recipient::User(id) => (Some(id.to_string()), None),
            Recipient::Address(email) => (None, Some(email)),
        };
        Self {
            id: uuid_v7(mail.created_at).to_string(),
            kind: mail.kind.as_str(),
            user_id,
            email: email.map(|email| email.as_str().to_owned()),
            email_key: email.map(Email::key),
            slot: mail.slot.clone(),
            request_id: mail.request_id.clone(),
            client_ip: mail.client_ip.clone(),
            created_at: mail.created_at.micros(),
            due_at: mail.created_at.micros(),
            attempts: 0,
            failure: "",
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = mails)]
struct MailRow {
    id: String,
    kind: String,
    user_id: Option<String>,
    email: Option<String>,
    request_id: String,
    client_ip: String,
    created_at: i64,
    attempts: i32,
}

impl TryFrom<MailRow> for ClaimedMail {
    type Error = StoreError;

    fn try_from(row: MailRow) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt(format!("mail {}", row.id));
        let recipient = match (&row.user_id, &row.email) {
            (Some(id), _) => Recipient::User(parse_user_id(id)?),
            (None, Some(email)) => Recipient::Address(Email::from_stored(email.clone())),
            (None, None) => return Err(corrupt()),
        };
        Ok(Self {
            kind: MailKind::from_stored(&row.kind).ok_or_else(corrupt)?,
            recipient,
            request_id: row.request_id,
            client_ip: row.client_ip,
            created_at: Timestamp::from_micros(row.created_at),
            attempts: row.attempts,
            id: row.id,
        })
    }
}

/// Adds a mail inside a transaction; nothing where another has its slot.
macro_rules! queue_mail {
    ($conn:expr, $row:expr) => {
        diesel::insert_into($crate::store::schema::mails::table)
            .values($row)
            .on_conflict_do_nothing()
            .execute($conn)
            .await?
    };
}

pub(in crate::store) use queue_mail;

/// Adds a mail about a new device, unless the user got ten within a day. The transaction holds the lock on the user's row, so
/// nobody else counts at the same time.
pub(in crate::store) const NEW_DEVICE: &str = "INSERT INTO mails \
     (id, kind, user_id, slot, request_id, client_ip, created_at, due_at, attempts, failure) \
     SELECT $1, 'new_device', $2, $3, $4, $5, CAST($6 AS BIGINT), CAST($6 AS BIGINT), 0, '' \
     WHERE (SELECT count(*) FROM mails WHERE kind = 'new_device' AND user_id = $2 \
     AND created_at > CAST($7 AS BIGINT)) < 10 ON CONFLICT DO NOTHING";

/// Adds a mail about a new device inside a transaction.
macro_rules! queue_new_device_mail {
    ($conn:expr, $mail:expr) => {{
        let mail: &NewMailRow = $mail;
        let (user, slot, created_at, day_before) = mail.of_new_device();
        let insert = diesel::sql_query($crate::store::mails::outbox::NEW_DEVICE)
            .bind::<diesel::sql_types::Text, _>(&mail.id)
            .bind::<diesel::sql_types::Text, _>(user)
            .bind::<diesel::sql_types::Nullable<diesel::sql_types::Text>, _>(slot)
            .bind::<diesel::sql_types::Text, _>(&mail.request_id)
            .bind::<diesel::sql_types::Text, _>(&mail.client_ip)
            .bind::<diesel::sql_types::BigInt, _>(created_at)
            .bind::<diesel::sql_types::BigInt, _>(day_before);
        $crate::store::prepared::Prepared(insert)
            .execute($conn)
            .await?
            > 0
    }};
}

pub(in crate::store) use queue_new_device_mail;

impl NewMailRow {
    /// The user, the slot, when, and a day before that.
    pub(in crate::store) fn of_new_device(&self) -> (&str, Option<&str>, i64, i64) {
        let day_before = Timestamp::from_micros(self.created_at) - Duration::from_secs(24 * 3600);
        (
            self.user_id.as_deref().unwrap_or_default(),
            self.slot.as_deref(),
            self.created_at,
            day_before.micros(),
        )
    }
}

impl Store {
    /// Adds a mail by itself. The same statement whether or not its slot is taken.
    pub async fn queue_mail(&self, mail: &NewMail) -> Result<(), StoreError> {
        let row = NewMailRow::of(mail);
        write!(self, |conn| Ok(queue_mail!(conn, &row)))?;
        self.mail_queued.notify_one();
        Ok(())
    }

    /// Waits until this process has queued a mail.
    pub async fn mail_queued(&self) {
        self.mail_queued.notified().await;
    }

    /// Claims the mails that are due. Nobody else takes them for `lease`.
    ///
    /// Mails of kinds that only a later version knows are left to that.
    pub async fn claim_mails(
        &self,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Vec<ClaimedMail>, StoreError> {
        let known = MailKind::ALL.map(MailKind::as_str);
        let due: Vec<MailRow> = read!(self, |conn| {
            Ok(mails::table
                .filter(mails::done_at.is_null())
                .filter(mails::failed_at.is_null())
                .filter(mails::due_at.le(now.micros()))
                .filter(mails::kind.eq_any(known))
                .order(mails::due_at)
                .limit(CLAIM)
                .select(MailRow::as_select())
                .load(conn)
                .await?)
        })?;
        let mut claimed = Vec::with_capacity(due.len());
        for row in due {
            let mut mail = ClaimedMail::try_from(row)?;
            if self.claim(&mail, now + lease).await? {
                mail.attempts += 1;
                claimed.push(mail);
            }
        }
        Ok(claimed)
    }

    async fn claim(&self, mail: &ClaimedMail, until: Timestamp) -> Result<bool, StoreError> {
        let unclaimed = mails::table
            .find(mail.id.clone())
            .filter(mails::done_at.is_null())
            .filter(mails::failed_at.is_null())
            .filter(mails::attempts.eq(mail.attempts));
        let claim = diesel::update(unclaimed).set((
            mails::due_at.eq(until.micros()),
            mails::attempts.eq(mail.attempts + 1),
        ));
        Ok(write!(self, |conn| Ok(claim.execute(conn).await?))? == 1)
    }

    /// Records that a claimed mail was sent, or that there is nobody to send it to. The address in it is forgotten.
    pub async fn finish_mail(
        &self,
        mail: &ClaimedMail,
        now: Timestamp,
        event: Option<&AuditEvent>,
    ) -> Result<(), StoreError> {
        let event = event.map(AuditEvent::to_row);
        write!(self, |conn| {
            conn.transaction::<_, StoreError, _>(async |conn| {
                diesel::update(mails::table.find(mail.id.clone()))
                    .set((
                        mails::done_at.eq(now.micros()),
                        mails::email.eq(None::<String>),
                        mails::email_key.eq(None::<String>),
                        mails::client_ip.eq(""),
                    ))
                    .execute(conn)
                    .await?;
                if let Some(event) = &event {
                    diesel::insert_into(audit_events::table)
                        .values(event)
                        .execute(conn)
                        .await?;
                }
                Ok(())
            })
            .await
        })
    }

    /// Has a claimed mail tried again at `due`.
    pub async fn postpone_mail(
        &self,
        mail: &ClaimedMail,
        due: Timestamp,
        failure: &str,
    ) -> Result<(), StoreError> {
        let own = mails::table
            .find(mail.id.clone())
            .filter(mails::attempts.eq(mail.attempts));
        let postpone =
            diesel::update(own).set((mails::due_at.eq(due.micros()), mails::failure.eq(failure)));
        write!(self, |conn| Ok(postpone.execute(conn).await?))?;
        Ok(())
    }

    /// Gives a claim back, as if it had not been made: the mail was not tried, or not for a reason of its own. Anybody
    /// may take it from `due` on.
    pub async fn unclaim_mail(
        &self,
        mail: &ClaimedMail,
        due: Timestamp,
        failure: &str,
    ) -> Result<(), StoreError> {
        let own = mails::table
            .find(mail.id.clone())
            .filter(mails::attempts.eq(mail.attempts));
        let unclaim = diesel::update(own).set((
            mails::due_at.eq(due.micros()),
            mails::attempts.eq(mail.attempts - 1),
            mails::failure.eq(failure),
        ));
        write!(self, |conn| Ok(unclaim.execute(conn).await?))?;
        Ok(())
    }

    /// Gives a claimed mail up.
    pub async fn give_up_mail(
        &self,
        mail: &ClaimedMail,
        now: Timestamp,
        failure: &str,
    ) -> Result<(), StoreError> {
        let own = mails::table
            .find(mail.id.clone())
            .filter(mails::attempts.eq(mail.attempts));
        let give_up = diesel::update(own).set((
            mails::failed_at.eq(now.micros()),
            mails::failure.eq(failure),
        ));
        write!(self, |conn| Ok(give_up.execute(conn).await?))?;
        Ok(())
    }
}
