//! ImportUsers: brings in users of another system, as `countersign users import` does, on behalf of an administrator.

use std::{sync::Arc, time::Duration};

use super::{
    Auth, AuthError, RequestContext,
    user_places::{Bounds, UserPlace},
};
use crate::{
    domain::{FieldViolation, ViolationReason},
    import::{Batch, Counts, Importer, Preparer, Reason, Record, Refused},
    store::AuditKind,
    tokens::VerifiedClaims,
};

/// Imports at once on this replica: what they hold in memory is bounded by it.
pub(super) const PLACES: Bounds = Bounds {
    all: 2,
    per_user: 1,
    retry_after: Duration::from_secs(10),
};

/// Records of one import.
const MAX_RECORDS: u64 = 100_000;

/// Refused records that are told.
const MAX_TOLD: usize = 1_000;

/// How long a batch is tried again while the database is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// An import under way.
pub struct UserImport {
    auth: Auth,
    importer: Importer,
    preparer: Preparer,
    claims: Arc<VerifiedClaims>,
    batch: Batch,
    records: u64,
    refused: u64,
    told: Vec<Refused>,
    _place: UserPlace,
}

impl Auth {
    /// How long an import waits for its next record: as long as any other request may take.
    pub fn import_idle_time(&self) -> Duration {
        self.parts.settings.request_timeout
    }

    /// Begins an import on behalf of the administrator with these claims.
    ///
    /// # Errors
    /// [`AuthError::RateLimited`] when the administrator, or enough others, are importing already.
    pub fn begin_import(
        &self,
        claims: Arc<VerifiedClaims>,
        context: &RequestContext,
    ) -> Result<UserImport, AuthError> {
        let place = self.import_places.take(claims.user_id)?;
        let parts = &self.parts;
        let clock = parts.clock.clone();
        let event = context.audit_event(AuditKind::UsersImported, clock.now());
        Ok(UserImport {
            auth: self.clone(),
            preparer: Preparer::new(parts.passwords.sealer()?, clock.clone()),
            importer: Importer::new(parts.store.clone(), clock, event, PATIENCE),
            claims,
            batch: Batch::default(),
            records: 0,
            refused: 0,
            told: Vec::new(),
            _place: place,
        })
    }
}

impl UserImport {
    /// Takes one record, or why it is none; a full batch is written.
    ///
    /// # Errors
    /// [`AuthError::InvalidFields`] for one record more than an import may have; [`AuthError::InsufficientRole`] or
    /// [`AuthError::TokenRevoked`] when the administrator is none any more; [`AuthError::TokenRevoked`],
    /// [`AuthError::TokenExpired`] or [`AuthError::TokenInvalid`] when the token is good no longer;
    /// [`AuthError::DatabaseUnavailable`].
    pub async fn add(&mut self, record: Result<Record, Reason>) -> Result<(), AuthError> {
        if self.records == MAX_RECORDS {
            self.write().await?;
            let rule = format!("a stream has at most {MAX_RECORDS} messages");
            let violation = FieldViolation::new("", ViolationReason::TooLong, rule);
            return Err(AuthError::InvalidFields(vec![violation]));
        }
        self.records += 1;
        let line = self.records;
        let prepared = match record {
            Ok(record) => self.preparer.prepare(&record)?,
            Err(reason) => Err(reason),
        };
        match prepared {
            Ok(prepared) => self.batch.push(line, prepared),
            Err(reason) => self.add_refusals([Refused { line, reason }]),
        }
        if self.batch.is_full() {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes the last batch and returns the result: the counts, the number of refused records, and the first of them.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub async fn finish(mut self) -> Result<(Counts, u64, Vec<Refused>), AuthError> {
        self.write().await?;
        self.told.sort_by_key(|refused| refused.line);
        self.told.truncate(MAX_TOLD);
        Ok((self.importer.counts(), self.refused, self.told))
    }

    async fn write(&mut self) -> Result<(), AuthError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // A stream may last longer than its token is good.
        self.auth.check_again(&self.claims)?;
        self.auth
            .require_current_role(&self.claims, &["admin"])
            .await?;
        let batch = std::mem::take(&mut self.batch);
        let refused = self.importer.write(batch).await?;
        self.add_refusals(refused);
        Ok(())
    }

    /// Counts refused records and keeps the first. A batch is refused later than the records after it may be, so that a batch more
    /// than are told is kept until the end.
    fn add_refusals(&mut self, refused: impl IntoIterator<Item = Refused>) {
        for refused in refused {
            self.refused += 1;
            if self.told.len() < 2 * MAX_TOLD {
                self.told.push(refused);
            }
        }
    }
}
