//! Statements that are worth preparing once for each connection, and those that are not.
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

/// A statement of which there are very many variants, as many as callers make: the connection keeps none of them prepared.
pub(super) struct Unprepared<Q>(pub(super) Q);

impl<Q: Query> Query for Unprepared<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryId> QueryId for Unprepared<Q> {
    type QueryId = Q::QueryId;

    const HAS_STATIC_QUERY_ID: bool = Q::HAS_STATIC_QUERY_ID;
}

impl<DB: Backend, Q: QueryFragment<DB>> QueryFragment<DB> for Unprepared<Q> {
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        pass.unsafe_to_cache_prepared();
        self.0.walk_ast(pass)
    }
}

#[cfg(test)]
mod tests {
    use diesel::{pg::Pg, prelude::*, sqlite::Sqlite};

    use super::*;
    use crate::store::schema::users;

    fn is_kept<DB: Backend>(query: &impl QueryFragment<DB>, backend: &DB) -> bool {
        query.is_safe_to_cache_prepared(backend).unwrap()
    }

    #[test]
    fn a_statement_with_the_conditions_of_a_caller_is_not_kept_prepared() {
        let all = users::table.select(users::id);
        assert!(is_kept(&all, &Pg) && is_kept(&all, &Sqlite));
        let some = Unprepared(all);
        assert!(!is_kept(&some, &Pg) && !is_kept(&some, &Sqlite));
    }
}
