//! The filter language of lists: a small part of AIP-160 (<https://google.aip.dev/160>).
//!
//! ```text
//! filter     = [ expression ]
//! expression = term { "AND" term }
//! term       = "(" expression ")" | comparison
//! comparison = field operator value
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
//! value      = quoted text, or a word without spaces, quotes, parentheses and operators other than ":" and "-"
//! ```
//!
//! A value holds no control characters: no field does, and PostgreSQL takes no NUL in a text.
//! `OR`, `NOT`, functions and nested fields are refused. Which fields there are, and what they compare with, is decided by
//! each list.

use super::{FieldViolation, ViolationReason};

/// The longest filter, in bytes.
const MAX_LENGTH: usize = 1_024;
/// The most comparisons.
const MAX_COMPARISONS: usize = 16;
/// The deepest nesting of parentheses.
const MAX_DEPTH: usize = 8;

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `:`: a repeated field holds the value.
    Has,
}

/// One comparison of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The name of the field.
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: String,
}

/// Parses a filter into the comparisons that must all hold; none for an empty filter.
///
/// # Errors
/// The text is no filter, or a longer one than is accepted.
pub fn parse_filter(field: &'static str, text: &str) -> Result<Vec<Comparison>, FieldViolation> {
    if text.len() > MAX_LENGTH {
        let rule = format!("must have at most {MAX_LENGTH} bytes");
        return Err(FieldViolation::new(field, ViolationReason::TooLong, rule));
    }
    let parsed = tokens(text).and_then(|tokens| {
        let mut parser = Parser {
            tokens: &tokens,
            comparisons: Vec::new(),
        };
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        parser.expression(0)?;
        match parser.tokens {
            [] => Ok(parser.comparisons),
            [Token::Close, ..] => Err("has a parenthesis that nothing opened"),
            _ => Err("needs AND between two comparisons; OR and NOT are not supported"),
        }
    });
    parsed.map_err(|rule| FieldViolation::new(field, ViolationReason::Malformed, rule))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Operator(Operator),
    /// Not quoted.
    Word(String),
    /// Quoted.
    Text(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' | '\'' => quoted(rest, first)?,
            '=' | '!' | '<' | '>' => operator(rest)?,
            // A value may begin with it: `::1`.
            ':' if !matches!(tokens.last(), Some(Token::Operator(_))) => operator(rest)?,
            _ => word(rest, tokens.last()),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn operator(rest: &str) -> Result<(Token, usize), &'static str> {
    const OPERATORS: [(&str, Operator); 7] = [
        ("!=", Operator::NotEqual),
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
        (":", Operator::Has),
    ];
    let found = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
    let (sign, operator) = found.ok_or("has an exclamation mark without an equals sign")?;
    Ok((Token::Operator(*operator), sign.len()))
}

/// A quoted text; a backslash takes the character behind it as it is.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), &'static str> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            _ if character == quote => return Ok((Token::Text(text), at + quote.len_utf8())),
            _ => text.push(character),
        }
    }
    Err("has a quotation mark that is not closed")
}

/// A word ends before a sign of the language. A value may hold colons: times and addresses do.
fn word(rest: &str, before: Option<&Token>) -> (Token, usize) {
    let is_value = matches!(before, Some(Token::Operator(_)));
    let ends = |character: char| {
        character.is_whitespace()
            || "()\"'=!<>".contains(character)
            || (character == ':' && !is_value)
    };
    let length = rest.find(ends).unwrap_or(rest.len());
    (Token::Word(rest[..length].to_owned()), length)
}

struct Parser<'a> {
    tokens: &'a [Token],
    comparisons: Vec<Comparison>,
}

impl Parser<'_> {
    fn expression(&mut self, depth: usize) -> Result<(), &'static str> {
        self.term(depth)?;
        while matches!(self.tokens, [Token::Word(word), ..] if word == "AND") {
            self.tokens = &self.tokens[1..];
            self.term(depth)?;
        }
        Ok(())
    }

    fn term(&mut self, depth: usize) -> Result<(), &'static str> {
        if depth > MAX_DEPTH {
            return Err("has parentheses in too many parentheses");
        }
        match self.tokens {
            [Token::Open, rest @ ..] => {
                self.tokens = rest;
                self.expression(depth + 1)?;
                match self.tokens {
                    [Token::Close, rest @ ..] => {
                        self.tokens = rest;
                        Ok(())
                    }
                    [] => Err("has a parenthesis that is not closed"),
                    _ => Err("needs AND between two comparisons; OR and NOT are not supported"),
                }
            }
            [
                Token::Word(field),
                Token::Operator(operator),
                Token::Word(value) | Token::Text(value),
                rest @ ..,
            ] => {
                if self.comparisons.len() == MAX_COMPARISONS {
                    return Err("has too many comparisons");
                }
                if value.contains(char::is_control) {
                    return Err("has a control character in a value");
                }
                self.comparisons.push(Comparison {
                    field: field.clone(),
                    operator: *operator,
                    value: value.clone(),
                });
                self.tokens = rest;
                Ok(())
            }
            _ => Err("must be comparisons such as field = \"value\", joined by AND"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<Comparison>, FieldViolation> {
        parse_filter("filter", text)
    }

    fn comparison(field: &str, operator: Operator, value: &str) -> Comparison {
        Comparison {
            field: field.to_owned(),
            operator,
            value: value.to_owned(),
        }
    }

    #[test]
    fn comparisons_are_read_with_and_without_quotes_and_parentheses() {
        let expected = [
            comparison("kind", Operator::Equal, "logged_in"),
            comparison("event_time", Operator::AtLeast, "2026-11-24T00:00:00Z"),
        ];
        for text in [
            "kind = logged_in AND event_time >= 2026-11-24T00:00:00Z",
            "kind=\"logged_in\" AND event_time>=\"2026-11-24T00:00:00Z\"",
            "( kind = 'logged_in' ) AND ((event_time >= 2026-11-24T00:00:00Z))",
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        let roles = parse("roles:admin AND client_ip != 2001:db8::1").unwrap();
        assert_eq!(
            roles,
            [
                comparison("roles", Operator::Has, "admin"),
                comparison("client_ip", Operator::NotEqual, "2001:db8::1"),
            ]
        );
        let loopback = parse("client_ip = ::1 AND kind=a").unwrap();
        assert_eq!(loopback[0], comparison("client_ip", Operator::Equal, "::1"));
        assert_eq!(parse("  ").unwrap(), []);
        assert_eq!(
            parse(r#"email = "a\"b\\c AND""#).unwrap(),
            [comparison("email", Operator::Equal, r#"a"b\c AND"#)]
        );
    }

    #[test]
    fn a_malformed_filter_is_refused_completely() {
        let many = vec!["a = b"; MAX_COMPARISONS + 1].join(" AND ");
        let deep = "(".repeat(MAX_DEPTH + 2) + "a = b" + &")".repeat(MAX_DEPTH + 2);
        for text in [
            "a",
            "a =",
            "= b",
            "a b",
            "a = b c = d",
            "a = b OR c = d",
            "NOT a = b",
            "a = b AND",
            "AND a = b",
            "(a = b",
            "a = b)",
            "()",
            "a ! b",
            "a == b",
            "a = \"b",
            "\"a\" = b",
            "a = b\0",
            "a = \"b\u{7f}\"",
            "a = \"b\\\n\"",
            &many,
            &deep,
        ] {
            let violation = parse(text).unwrap_err();
            assert_eq!(violation.reason, ViolationReason::Malformed, "{text}");
        }
        let long = parse(&format!("a = {}", "b".repeat(MAX_LENGTH))).unwrap_err();
        assert_eq!(long.reason, ViolationReason::TooLong);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}|[a-z=!<>:\"'() AND\\\\]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn every_quoted_value_is_read_back(values in prop::collection::vec("\\PC{0,40}", 1..8)) {
            let quote = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"");
            let text = values.iter().map(|value| format!("a = \"{}\"", quote(value)));
            let text = text.collect::<Vec<_>>().join(" AND ");
            prop_assume!(text.len() <= MAX_LENGTH);
            let read = parse(&text).unwrap();
            let read: Vec<_> = read.into_iter().map(|comparison| comparison.value).collect();
            prop_assert_eq!(read, values);
        }
    }
}
