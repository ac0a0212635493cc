package import NIOCore

/// A binary message of ComfyUI's socket (protocol section 7). All integers are unsigned, 32 bits, big-endian.
package enum ComfyBinaryMessage: Sendable, Hashable {
    case preview(PreviewFrame)
    /// What a node tells about its work in words. Only versions that negotiate it name the prompt.
    case progressText(nodeID: String, text: String, promptID: String?)
    /// `length` counts the bytes after the type, `head` holds the first of them, at most `headLimit`.
    case unknown(type: UInt32, length: Int, head: ByteBuffer)
}

extension ComfyBinaryMessage {
    /// How much of a message of an unknown type is kept.
    package static let headLimit = 32 << 10

    /// Decodes one binary frame.
    ///
    /// - Parameter progressTextHasPromptID: whether the server advertised `supports_progress_text_metadata`; then type 3 starts with the prompt's
    ///   id (protocol section 16).
    package init(parsing frame: ByteBuffer, progressTextHasPromptID: Bool = false) throws(ComfyMessageError) {
        var rest = frame
        guard let type = rest.readInteger(as: UInt32.self) else { throw Self.error(nil, "it has fewer than 4 bytes") }
        switch type {
        case 1: self = .preview(try PreviewFrame(legacy: &rest))
        case 3:
            let promptID = progressTextHasPromptID ? try Self.readText(&rest, "prompt id", ofType: type) : nil
            let nodeID = try Self.readText(&rest, "node id", ofType: type)
            self = .progressText(nodeID: nodeID, text: String(decoding: rest.readableBytesView, as: UTF8.self), promptID: promptID)
        case 4: self = .preview(try PreviewFrame(withMetadata: &rest))
        default:
            self = .unknown(type: type, length: rest.readableBytes, head: ByteBuffer(bytes: rest.readableBytesView.prefix(Self.headLimit)))
        }
    }

    /// A length and that many bytes of UTF-8.
    static func readText(_ buffer: inout ByteBuffer, _ what: String, ofType type: UInt32) throws(ComfyMessageError) -> String {
        var bytes = try readSlice(&buffer, what, ofType: type)
        return bytes.readString(length: bytes.readableBytes) ?? ""
    }

    /// A length and that many bytes.
    static func readSlice(_ buffer: inout ByteBuffer, _ what: String, ofType type: UInt32) throws(ComfyMessageError) -> ByteBuffer {
        guard let length = buffer.readInteger(as: UInt32.self) else { throw error(type, "the length of the \(what) is missing") }
        guard let slice = buffer.readSlice(length: Int(length)) else {
            throw error(type, "the \(what) should have \(length) bytes, but only \(buffer.readableBytes) follow")
        }
        return slice
    }

    static func error(_ type: UInt32?, _ reason: String) -> ComfyMessageError {
        ComfyMessageError(type: type.map { "binary \($0)" } ?? "binary", reason: reason, payloadStart: "")
    }
}
