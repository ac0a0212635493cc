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
        let other = inbox.open(JobID())
        inbox.receive(.connected(sid: nil))
        for event in events {
            // What runs is the job.
            if case .binary = event { inbox.receive(.message(.executionStart(promptID: job.description, timestamp: nil), raw: "")) }
            inbox.receive(event)
        }
        // Nothing runs any more, or it is not known what.
        inbox.receive(.message(.executionEnded(promptID: job.description), raw: ""))
        inbox.receive(Self.unmarked)
        inbox.receive(.connected(sid: nil))
        inbox.receive(Self.unmarked)
        inbox.close(job, channel)
        var seen: [Bool] = []
        for await input in channel.inputs {
            if case .binary(_, let marksPreviews) = input { seen.append(marksPreviews) }
        }
        #expect(seen == expected)
        other.send(.deadline)
        for await input in other.inputs {
            if case .deadline = input { break }
            if case .binary = input { Issue.record("another prompt got the picture") }
        }
    }

    @Test func theBeginningOfOnePromptIsToldToTheOthers() async {
        let inbox = PromptInbox { _ in }
        let (first, second) = (JobID(), JobID())
        let channels = (inbox.open(first), inbox.open(second))
        for job in [first, second] { inbox.receive(.message(.executionStart(promptID: job.description, timestamp: nil), raw: "")) }
        inbox.close(first, channels.0)
        inbox.close(second, channels.1)
        func told(_ channel: PromptInbox.Channel) async -> [Bool] {
            var told: [Bool] = []
            for await input in channel.inputs { if case .overtaken = input { told.append(true) } else { told.append(false) } }
            return told
        }
        let seen = (await told(channels.0), await told(channels.1))
        #expect(seen == ([false, true], [true, false]))
    }

    @Test func whatIsOpenedAgainIsNotClosedByTheLastRun() async {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let first = inbox.open(job)
        let second = inbox.open(job)
        inbox.close(job, first)
        #expect(inbox.openCount == 1)
        inbox.receive(.message(.executionEnded(promptID: job.description), raw: ""))
        inbox.close(job, second)
        #expect(inbox.openCount == 0)
        var inputs = 0
        for await _ in second.inputs { inputs += 1 }
        #expect(inputs == 1)
    }
}
