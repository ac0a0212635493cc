package import NIOCore
import OrderedJSON

/// An image that came over the socket: an in-progress preview, or a result of SaveImageWebsocket (only the class of the node tells which).
package struct PreviewFrame: Sendable, Hashable {
    /// Nil for type 1 frames, which belong to whatever node runs.
    package let metadata: PreviewMetadata?
    /// `image/jpeg` or `image/png`; type 4 frames may name others.
    package let contentType: String
    /// Holds no more memory than a small multiple of the image.
    package let image: ByteBuffer

    package init(metadata: PreviewMetadata?, contentType: String, image: ByteBuffer) {
        self.metadata = metadata
        self.contentType = contentType
        self.image = image
    }
}

package struct PreviewMetadata: Sendable, Hashable {
    package let nodeID: String
    package let promptID: String
    /// The node of the submitted graph.
    package let displayNodeID: String?
    package let parentNodeID: String?
    package let realNodeID: String?

    package init(nodeID: String, promptID: String, displayNodeID: String? = nil, parentNodeID: String? = nil, realNodeID: String? = nil) {
        self.nodeID = nodeID
        self.promptID = promptID
        self.displayNodeID = displayNodeID
        self.parentNodeID = parentNodeID
        self.realNodeID = realNodeID
    }
}

extension PreviewFrame {
    /// The part of a type 1 message after the type: format, image.
    init(legacy buffer: inout ByteBuffer) throws(ComfyMessageError) {
        guard let format = buffer.readInteger(as: UInt32.self) else { throw ComfyBinaryMessage.error(1, "the image format is missing") }
        switch format {
        case 1: contentType = "image/jpeg"
        case 2: contentType = "image/png"
        default: throw ComfyBinaryMessage.error(1, "the image format \(format) is unknown")
        }
        metadata = nil
        image = Self.detached(buffer)
    }

    /// The part of a type 4 message after the type: length, JSON, image.
    init(withMetadata buffer: inout ByteBuffer) throws(ComfyMessageError) {
        let text = try ComfyBinaryMessage.readSlice(&buffer, "metadata", ofType: 4)
        let json: JSON
        do {
            json = try JSON(parsing: text.readableBytesView, lenient: true)
        } catch {
            throw ComfyBinaryMessage.error(4, "the metadata is no JSON: \(error)")
        }
        guard let nodeID = json["node_id"]?.identifier, let promptID = json["prompt_id"]?.identifier else {
            throw ComfyBinaryMessage.error(4, "the metadata does not name the node and the prompt")
        }
        guard let contentType = json["image_type"]?.string, Self.isImageType(contentType) else {
            throw ComfyBinaryMessage.error(4, "the metadata does not name an image type")
        }
        metadata = PreviewMetadata(
            nodeID: nodeID, promptID: promptID, displayNodeID: json["display_node_id"]?.identifier,
            parentNodeID: json["parent_node_id"]?.identifier, realNodeID: json["real_node_id"]?.identifier)
        self.contentType = contentType
        image = Self.detached(buffer)
    }

    /// `image/` and a token: it will stand in a header.
    private static func isImageType(_ text: String) -> Bool {
        let prefix = "image/"
        guard text.hasPrefix(prefix), text.utf8.count > prefix.utf8.count else { return false }
        return text.utf8.dropFirst(prefix.utf8.count).allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "-"):
                true
            default: false
            }
        }
    }

    /// The bytes without the rest of the read buffer that they are a slice of, which a kept preview would hold in memory.
    private static func detached(_ buffer: ByteBuffer) -> ByteBuffer {
        buffer.storageCapacity > 2 * buffer.readableBytes ? ByteBuffer(bytes: buffer.readableBytesView) : buffer.slice()
    }
}
