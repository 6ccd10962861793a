//! Makes a module that no cache knows, out of one that works.

/// The module with one more custom section, which means nothing: another hash, the same code.
pub(crate) fn with_custom_section(module: &[u8], content: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let mut section = Vec::from([NAME.len() as u8]);
    section.extend_from_slice(NAME);
    section.extend_from_slice(content);
    let mut out = module.to_vec();
    out.push(0);
    push_leb128(section.len(), &mut out);
    out.extend_from_slice(&section);
    out
}

fn push_leb128(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_appended_with_its_length() {
        let empty = b"\0asm\x01\0\0\0";
        let with = with_custom_section(empty, b"xyz");
        assert_eq!(with, b"\0asm\x01\0\0\0\0\x09\x05benchxyz");
        let long = with_custom_section(empty, &[7; 200]);
        assert_eq!(&long[8..11], [0, 0xCE, 0x01]);
    }
}
