//! The elements of a list in a JSON document of any size, one after the other.

use std::{fmt, io::BufRead, ops::ControlFlow};

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{error::Category, value::RawValue};

use super::{
    ReadError,
    budget::{Budget, Budgeted},
};

/// Takes the number of an element, from 1, and its text.
pub(super) type Each<'a> = &'a mut dyn FnMut(u64, &str) -> ControlFlow<()>;

/// Where the list is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The document is the list.
    Document,
    /// It is a member of this name of the document, or of each of several documents in a list.
    Member(&'static str),
}

/// Hands over every element. Everything else of the document is read and not kept.
///
/// # Errors
/// [`ReadError`]: no JSON, another shape, or an element or the name of a member that is longer than any account.
pub(super) fn each_element(
    reader: impl BufRead,
    place: Place,
    each: Each<'_>,
) -> Result<(), ReadError> {
    let budget = Budget::default();
    let reader = Budgeted::new(reader, budget.clone());
    let mut walk = Walk {
        place,
        each,
        budget,
        elements: 0,
        is_stopped: false,
    };
    let mut document = serde_json::Deserializer::from_reader(reader);
    let result = Value(&mut walk)
        .deserialize(&mut document)
        .and_then(|()| document.end());
    match result {
        Ok(()) => Ok(()),
        Err(_) if walk.is_stopped => Ok(()),
        Err(error) if error.classify() == Category::Io => Err(ReadError::Io(error.into())),
        Err(error) => Err(ReadError::Document {
            line: error.line(),
            column: error.column(),
            what: match error.classify() {
                Category::Eof => "it ends too early",
                Category::Syntax => "it is no JSON",
                Category::Data | Category::Io => "it does not have the structure of such an export",
            },
        }),
    }
}

struct Walk<'a> {
    place: Place,
    each: Each<'a>,
    budget: Budget,
    elements: u64,
    is_stopped: bool,
}

/// A value that is the list, or in which the list is.
struct Value<'w, 'a>(&'w mut Walk<'a>);

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an export")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        match self.0.place {
            Place::Document => Elements(self.0).walk(list),
            Place::Member(_) => {
                while list.next_element_seed(Object(&mut *self.0))?.is_some() {}
                Ok(())
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Object(self.0).visit_map(map)
    }
}

/// An object with the list as one of its members.
struct Object<'w, 'a>(&'w mut Walk<'a>);

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Place::Member(member) = self.0.place else {
            return Err(A::Error::custom("an object"));
        };
        loop {
            // A name is kept until it is compared.
            self.0.budget.begin();
            let Some(name) = map.next_key::<String>()? else {
                break;
            };
            if name == member {
                map.next_value_seed(Elements(&mut *self.0))?;
            } else {
                self.0.budget.end();
                map.next_value::<IgnoredAny>()?;
            }
        }
        self.0.budget.end();
        Ok(())
    }
}

/// The list itself.
struct Elements<'w, 'a>(&'w mut Walk<'a>);

impl<'de> DeserializeSeed<'de> for Elements<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.walk(list)
    }
}

impl Elements<'_, '_> {
    fn walk<'de, A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(walk) = self;
        loop {
            walk.budget.begin();
            let Some(element) = list.next_element::<Box<RawValue>>()? else {
                break;
            };
            walk.elements += 1;
            if (walk.each)(walk.elements, element.get()).is_break() {
                walk.is_stopped = true;
                return Err(A::Error::custom("no more is wanted"));
            }
        }
        walk.budget.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::import::sources::budget::MAX_ACCOUNT;

    fn read(document: &[u8], place: Place) -> Result<Vec<(u64, String)>, ReadError> {
        let mut read = Vec::new();
        each_element(document, place, &mut |number, text| {
            read.push((number, text.to_owned()));
            ControlFlow::Continue(())
        })?;
        Ok(read)
    }

    #[test]
    fn elements_are_found_in_the_document_in_a_member_and_in_several_documents() {
        let expected = [(1, "{\"a\": 1}".to_owned()), (2, "2".to_owned())];
        for (document, place) in [
            ("[{\"a\": 1}, 2]", Place::Document),
            (
                "{\"x\":[{}],\"users\":[{\"a\": 1},2],\"y\":null}",
                Place::Member("users"),
            ),
            (
                "[{\"users\":[{\"a\": 1}]},{},{\"users\":[2]}]",
                Place::Member("users"),
            ),
        ] {
            assert_eq!(read(document.as_bytes(), place).unwrap(), expected);
        }
        assert_eq!(read(b"{}", Place::Member("users")).unwrap(), []);
    }

    #[test]
    fn a_document_of_another_shape_is_refused_where_it_differs() {
        for document in [
            "",
            "[1,",
            "[1]x",
            "nonsense",
            "{\"users\":{}}",
            "[[1]]",
            "3",
        ] {
            assert!(read(document.as_bytes(), Place::Member("users")).is_err());
        }
        let error = read(b"[1,\n2,\n}", Place::Document).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
        assert!(read(b"{\"a\":1}", Place::Document).is_err());
    }

    #[test]
    fn an_element_or_a_name_longer_than_any_account_ends_the_reading_and_other_members_may_have_any_length()
     {
        let long = "x".repeat(MAX_ACCOUNT);
        let document = format!("[\"short\",\"{long}\"]");
        let error = read(document.as_bytes(), Place::Document).unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
        let document = format!("{{\"{long}\":1,\"users\":[1]}}");
        let error = read(document.as_bytes(), Place::Member("users")).unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
        let document =
            format!("{{\"other\":[\"{long}\"],\"users\":[1],\"more\":\"{long}{long}\"}}");
        assert_eq!(
            read(document.as_bytes(), Place::Member("users")).unwrap(),
            [(1, "1".to_owned())]
        );
    }

    #[test]
    fn reading_stops_when_no_more_is_wanted() {
        let mut seen = 0;
        each_element(&b"[1,2,3 nonsense"[..], Place::Document, &mut |_, _| {
            seen += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(seen, 1);
    }

    proptest! {
        #[test]
        fn no_document_makes_the_reader_panic(
            document in "(\\[|\\{|\"users\":|\"a\"|1|,|\\]|\\}|null| |\\PC){0,40}", is_member: bool,
        ) {
            let place = if is_member { Place::Member("users") } else { Place::Document };
            let _ = read(document.as_bytes(), place);
        }
    }
}
