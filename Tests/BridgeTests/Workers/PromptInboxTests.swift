import ComfyUI
import NIOCore
import OrderedJSON
import Testing

@testable import Bridge

@Suite struct PromptInboxTests {
    private static let flags = EventSocketEvent.message(.featureFlags(["supports_preview_metadata": true]), raw: "")
    private static let unmarked = EventSocketEvent.binary(.preview(PreviewFrame(metadata: nil, contentType: "image/png", image: ByteBuffer())))

    /// Of each unmarked picture in turn.
    @Test("An unmarked picture is a stranger's only if ComfyUI had our flags on this connection", arguments: [
        ([unmarked], [false]), ([flags, unmarked], [true]), ([unmarked, flags, unmarked], [false, true]),
        ([flags, unmarked, .disconnected(reason: "r"), .connected(sid: nil), unmarked, flags, unmarked], [true, false, true]),
    ] as [([EventSocketEvent], [Bool])])
    func marks(_ events: [EventSocketEvent], _ expected: [Bool]) async {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let channel = inbox.open(job)
        inbox.receive(.connected(sid: nil))
        for event in events { inbox.receive(event) }
        inbox.close(job)
        var seen: [Bool] = []
        for await input in channel.inputs {
            if case .binary(_, let marksPreviews) = input { seen.append(marksPreviews) }
        }
        #expect(seen == expected)
    }
}
