//! Statements that are worth preparing once for each connection.
//!
//! diesel prepares an UPDATE anew for every execution, since the set of its columns may differ from one to the
//! next: a round trip and a plan each time, more than the rotation of a refresh token costs itself.

use diesel::{
    QueryResult,
    backend::Backend,
    query_builder::{AstPass, Query, QueryFragment, QueryId},
};

/// A statement whose SQL is the same every time, whatever its values: the connection keeps it prepared. Only for
/// statements written out in one piece, or of few variants: each of them is kept.
pub(super) struct Prepared<Q>(pub(super) Q);

impl<Q: Query> Query for Prepared<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryId> QueryId for Prepared<Q> {
    type QueryId = Q::QueryId;

    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<DB: Backend, Q: QueryFragment<DB>> QueryFragment<DB> for Prepared<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _: &DB) -> QueryResult<bool> {
        Ok(true)
    }
}
