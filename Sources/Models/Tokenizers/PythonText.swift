/// Python's operations on text that Swift's differ from, for tokenizers that were written in Python.
enum PythonText {
    /// Python's `str.lower`: a sigma at the end of a word becomes a final one.
    static func lowercase(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
        var result: [Unicode.Scalar] = []
        result.reserveCapacity(text.count)
        for (index, scalar) in text.enumerated() {
            let isCased = { (scalar: Unicode.Scalar?) in scalar?.properties.isCased ?? false }
            if scalar == "Σ", isCased(text[..<index].last { !$0.properties.isCaseIgnorable }),
                !isCased(text[(index + 1)...].first { !$0.properties.isCaseIgnorable })
            {
                result.append("ς")
            } else {
                result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
        }
        return result
    }
}
