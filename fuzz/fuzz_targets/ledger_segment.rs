//! Segment headers and frames: no panic, and what decodes encodes to the same bytes.
#![no_main]

use ledger::segment::{Frame, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }
    let Some((&nonce, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    if let Ok(frame) = Frame::decode(nonce, bytes) {
        let mut encoded = Vec::new();
        frame.encode(nonce, &mut encoded);
        assert!(bytes.starts_with(&encoded));
    }
});
