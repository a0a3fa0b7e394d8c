//! Lists in pages: one entry more than fits is read, so that it is known whether there are more.
//!
//! Not here: what is in them.

use axum::http::header::{InvalidHeaderValue, LINK};
use axum::http::{HeaderMap, HeaderValue};

/// Cuts what was found to a page of `limit` entries: the last of them, if there are more.
pub fn cut<T>(found: &mut Vec<T>, limit: usize) -> Option<&T> {
    let more = found.len() > limit;
    found.truncate(limit);
    found.last().filter(|_| more)
}

/// Says in an answer where its next page is: a path with a query.
///
/// # Errors
/// When the path cannot stand in a header.
pub fn link_next(headers: &mut HeaderMap, next: &str) -> Result<(), InvalidHeaderValue> {
    headers.insert(LINK, HeaderValue::try_from(format!("<{next}>; rel=\"next\""))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_next_page_only_when_more_was_found_than_fits() {
        for (found, limit, page, next) in [(3, 2, 2, Some(2)), (2, 2, 2, None), (1, 2, 1, None), (0, 2, 0, None), (1, 0, 0, None)] {
            let mut found: Vec<i32> = (1..=found).collect();
            assert_eq!(cut(&mut found, limit).copied(), next, "{found:?} of {limit}");
            assert_eq!(found.len(), page);
        }
    }
}
