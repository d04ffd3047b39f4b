//! Any bytes are a leaf, a recording or an error; what decodes encodes and decodes to itself.
#![no_main]

use event::wire::RecordingReader;
use event::{Bytes, Leaf, codec, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(leaf) = codec::decode(Bytes::copy_from_slice(bytes)) {
        let encoded = match &leaf {
            Leaf::Event(event) => codec::encode_event(event),
            Leaf::Finding(finding) => codec::encode_finding(finding),
            _ => return,
        };
        let _ = json::leaf(&leaf);
        assert_eq!(codec::decode(encoded).expect("own encoding"), leaf);
    }
    if let Ok(mut reader) = RecordingReader::new(bytes) {
        while let Ok(Some(_)) = reader.next() {}
    }
});
