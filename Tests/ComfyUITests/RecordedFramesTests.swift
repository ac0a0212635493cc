import ComfyUI
import NIOCore
import OrderedCollections
import OrderedJSON
import Testing

/// Every frame of every recording of all versions.
@Suite struct RecordedFramesTests {
    /// Types that only node packs and the asset scanner send.
    static let foreignTypes: Set<String> = [
        "rec.custom", "assets.seed.started", "assets.seed.fast_complete", "assets.seed.enrich_complete", "assets.seed.completed",
        "assets.seed.paused", "assets.seed.resumed", "assets.seed.progress",
    ]

    @Test(arguments: Recording.all)
    func everyTextFrameDecodes(_ recording: Recording) throws {
        var decoded = 0
        for text in try recording.texts() {
            let message = try ComfyMessage(parsing: text)
            decoded += 1
            if case .unknown(let type, let raw, _) = message {
                #expect(Self.foreignTypes.contains(type), "\(type) is no known type")
                #expect(raw == text)
            }
            #expect(text.contains(#""type": "\#(message.type)""#), "another type than in the text")
            if let promptID = message.promptID { #expect(text.contains(promptID)) }
        }
        let isSilent = ["misc_http", "security_headers", "view_active_content"].contains { recording.name.hasSuffix($0) }
        #expect((decoded == 0) == isSilent)
    }

    @Test(arguments: Recording.all)
    func everyBinaryFrameDecodes(_ recording: Recording) throws {
        for frame in try recording.binaries() {
            switch try ComfyBinaryMessage(parsing: frame) {
            case .preview(let preview):
                let magic: [UInt8] = preview.contentType == "image/jpeg" ? [0xFF, 0xD8, 0xFF] : [0x89, 0x50, 0x4E, 0x47]
                #expect(preview.image.readableBytesView.starts(with: magic))
                #expect(["image/jpeg", "image/png"].contains(preview.contentType))
                #expect((preview.metadata != nil) == (frame.getInteger(at: 0, as: UInt32.self) == 4))
                if let metadata = preview.metadata { #expect(metadata.promptID.utf8.count == 36) }
            case .progressText(let nodeID, let text, let promptID):
                #expect(!nodeID.isEmpty && !text.isEmpty && promptID == nil)
            case .unknown(let type, _, _): Issue.record("type \(type) is no known type")
            }
        }
    }

    @Test func theRecordingsAreThere() throws {
        #expect(Recording.all.count == 140)
        #expect(try Recording.all.reduce(0) { try $0 + $1.texts().count } > 5000)
        #expect(try Recording.all.reduce(0) { try $0 + $1.binaries().count } > 350)
    }

    /// One whole run, message by message (protocol section 8.1).
    @Test func aRunReadsAsItWasSent() throws {
        let messages = try Recording.named("success_previews_metadata").texts().map { try ComfyMessage(parsing: $0) }
        let kinds = messages.map { message in
            switch message {
            case .executing(_, let node, let display): "executing \(node) \(display ?? "-")"
            case .executionEnded: "ended"
            case .executed(_, let node, _, let output): "executed \(node) \(output?["images"]?[0]?["filename"]?.string ?? "-")"
            case .progress(_, let node, let value, let maximum): "progress \(node ?? "-") \(value)/\(maximum)"
            default: message.type
            }
        }
        #expect(kinds.first == "status")
        #expect(kinds.suffix(3) == ["execution_success", "status", "ended"])
        #expect(kinds.contains("executing 1 1"))
        #expect(kinds.filter { $0.hasPrefix("progress 1 ") } == (1...4).map { "progress 1 \($0).0/4.0" })
        guard case .status(let remaining, let sid) = messages[0] else {
            Issue.record("no status first")
            return
        }
        #expect(remaining == 0 && sid != nil)
    }

    @Test func aReconnectIsTold() throws {
        let messages = try Recording.named("v0.25/reconnect_mid_run").texts().map { try ComfyMessage(parsing: $0) }
        #expect(messages.contains { if case .executingBare(let node) = $0 { node != nil } else { false } })
    }

    @Test func errorsKeepWhatAPersonNeeds() throws {
        let messages = try Recording.named("v0.25/node_exception").texts().map { try ComfyMessage(parsing: $0) }
        let error = try #require(messages.compactMap { if case .executionError(let error) = $0 { error } else { nil } }.first)
        #expect(error.nodeType == "RecRaise" && error.exceptionType == "RuntimeError" && !error.isBlocked)
        #expect(!error.traceback.isEmpty && !error.executed.isEmpty && error.nodeID != nil && error.timestamp != nil)

        let blocked = try Recording.named("execution_blocker").texts().map { try ComfyMessage(parsing: $0) }
        let blocks = blocked.compactMap { if case .executionError(let error) = $0 { error } else { nil } }
        #expect(!blocks.isEmpty && blocks.allSatisfy(\.isBlocked))
    }

    /// Every frame of a run of an expanded graph names the node that the caller knows.
    @Test func expandedNodesNameTheirParent() throws {
        let messages = try Recording.named("subgraph_expansion").texts().map { try ComfyMessage(parsing: $0) }
        let displayed = messages.compactMap { message -> String? in
            if case .executing(_, let node, let display?) = message, node != display { display } else { nil }
        }
        #expect(!displayed.isEmpty)
        let states = messages.compactMap { if case .progressState(_, let nodes) = $0 { nodes } else { nil } }.flatMap { $0 }
        #expect(states.contains { $0.displayNodeID != $0.nodeID && $0.state == .running })
        #expect(!states.contains { if case .other = $0.state { true } else { false } })
    }
}
