import ComfyUI
import NIOCore
import Testing

@Suite struct ComfyBinaryMessageTests {
    static func frame(_ parts: Part...) -> ByteBuffer {
        parts.reduce(into: ByteBuffer()) { buffer, part in
            switch part {
            case .integer(let value): buffer.writeInteger(value)
            case .text(let text): buffer.writeString(text)
            }
        }
    }

    static func metadataFrame(_ metadata: String) -> ByteBuffer {
        frame(.integer(4), .integer(UInt32(metadata.utf8.count)), .text(metadata), .text("pixels"))
    }

    enum Part {
        case integer(UInt32)
        case text(String)
    }

    static let metadata =
        #"{"node_id": "3", "prompt_id": "p", "display_node_id": "3", "parent_node_id": null, "real_node_id": "3", "image_type": "image/jpeg"}"#

    @Test(arguments: [(UInt32(1), "image/jpeg"), (2, "image/png")])
    func legacyPreviews(format: UInt32, contentType: String) throws {
        let message = try ComfyBinaryMessage(parsing: Self.frame(.integer(1), .integer(format), .text("pixels")))
        #expect(message == .preview(PreviewFrame(metadata: nil, contentType: contentType, image: ByteBuffer(string: "pixels"))))
    }

    @Test func previewsWithMetadata() throws {
        let message = try ComfyBinaryMessage(parsing: Self.metadataFrame(Self.metadata))
        let metadata = PreviewMetadata(nodeID: "3", promptID: "p", displayNodeID: "3", realNodeID: "3")
        #expect(message == .preview(PreviewFrame(metadata: metadata, contentType: "image/jpeg", image: ByteBuffer(string: "pixels"))))
    }

    @Test func progressTextInBothLayouts() throws {
        let old = Self.frame(.integer(3), .integer(1), .text("7"), .text("half-way ½"))
        #expect(try ComfyBinaryMessage(parsing: old) == .progressText(nodeID: "7", text: "half-way ½", promptID: nil))
        let new = Self.frame(.integer(3), .integer(2), .text("id"), .integer(1), .text("7"), .text("half-way ½"))
        let message = try ComfyBinaryMessage(parsing: new, progressTextHasPromptID: true)
        #expect(message == .progressText(nodeID: "7", text: "half-way ½", promptID: "id"))
        let empty = Self.frame(.integer(3), .integer(0))
        #expect(try ComfyBinaryMessage(parsing: empty) == .progressText(nodeID: "", text: "", promptID: nil))
    }

    @Test(arguments: [UInt32(0), 2, 5, .max])
    func otherTypesAreKeptByNumber(_ type: UInt32) throws {
        #expect(try ComfyBinaryMessage(parsing: Self.frame(.integer(type), .text("abc"))) == .unknown(type: type, length: 3, head: ByteBuffer(string: "abc")))
        let large = try ComfyBinaryMessage(parsing: Self.frame(.integer(type), .text(String(repeating: "x", count: 1 << 20))))
        guard case .unknown(_, 1 << 20, let head) = large else {
            Issue.record("\(large)")
            return
        }
        #expect(head.readableBytes == ComfyBinaryMessage.headLimit && head.storageCapacity < 2 * ComfyBinaryMessage.headLimit + 1)
    }

    /// Lengths that promise more than there is, and contents that are not what the type says.
    @Test(arguments: [
        (ByteBuffer(), "fewer than 4 bytes"),
        (ByteBuffer(bytes: [0, 0, 1]), "fewer than 4 bytes"),
        (frame(.integer(1)), "format is missing"),
        (frame(.integer(1), .integer(3), .text("x")), "format 3 is unknown"),
        (frame(.integer(3)), "length of the node id is missing"),
        (frame(.integer(3), .integer(5), .text("1234")), "should have 5 bytes, but only 4"),
        (frame(.integer(3), .integer(.max), .text("1234")), "should have 4294967295 bytes"),
        (frame(.integer(4), .integer(100), .text("{}")), "should have 100 bytes, but only 2"),
        (frame(.integer(4), .integer(2), .text("{}"), .text("pixels")), "does not name the node"),
        (frame(.integer(4), .integer(1), .text("{"), .text("pixels")), "is no JSON"),
        (frame(.integer(4), .integer(0), .text("pixels")), "is no JSON"),
        (metadataFrame(#"{"node_id": "3", "prompt_id": "p""#), "is no JSON"),
        (metadataFrame(#"{"node_id": "3", "image_type": "image/png"}"#), "does not name the node"),
        (metadataFrame(#"{"node_id": "3", "prompt_id": "p"}"#), "image type"),
        (metadataFrame(#"{"node_id": "3", "prompt_id": "p", "image_type": "image/"}"#), "image type"),
        (metadataFrame(#"{"node_id": "3", "prompt_id": "p", "image_type": "text/html"}"#), "image type"),
        (metadataFrame(#"{"node_id": "3", "prompt_id": "p", "image_type": "image/x\r\nEvil: 1"}"#), "image type"),
    ])
    func lyingFramesAreErrors(_ frame: ByteBuffer, fault: String) {
        let error = #expect(throws: ComfyMessageError.self) { try ComfyBinaryMessage(parsing: frame) }
        #expect(error?.reason.contains(fault) == true, "\(error?.reason ?? "none")")
    }

    @Test func textBeforeTheNodeIDIsCheckedToo() {
        let frame = Self.frame(.integer(3), .integer(2), .text("id"), .integer(9), .text("7"))
        #expect(throws: ComfyMessageError.self) { try ComfyBinaryMessage(parsing: frame, progressTextHasPromptID: true) }
    }

    /// A preview that is kept must not keep the read buffer that it was a slice of.
    @Test func imagesLetTheReadBufferGo() throws {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(1 << 20)
        buffer.writeInteger(UInt32(1))
        buffer.writeInteger(UInt32(1))
        buffer.writeString("pixels")
        guard case .preview(let frame) = try ComfyBinaryMessage(parsing: buffer) else {
            Issue.record("no preview")
            return
        }
        #expect(frame.image.storageCapacity < 100)
    }
}
