extension StringProtocol {
    /// Of a content type: what stands before the parameters, in lower case; empty when nothing does.
    package var mediaType: String { prefix { $0 != ";" }.trimmed.lowercased() }

    /// Without the white space around it.
    package var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text = text.dropFirst() }
        while text.last?.isWhitespace == true { text = text.dropLast() }
        return String(text)
    }
}
