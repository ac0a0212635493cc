import OrderedCollections
import OrderedJSON
import Testing

@testable import API
@testable import Jobs
import Wording
@testable import Workers
@testable import Workflow

@Suite struct WhyTests {
    private static let me = JobID("7f3d2c1b-9a8e-4d6f-b012-3c4d5e6f7a8b")!
    private static let other = JobID("00000000-0000-4000-8000-000000000001")!

    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let situation: JobSituation
        let reason: Why.Reason
        /// Parts of the message.
        let says: [String]

        init(_ name: String, _ reason: Why.Reason, says: [String], _ change: (inout JobSituation) -> Void) {
            testDescription = name
            var situation = JobSituation(job: WhyTests.me)
            situation.comfyUIs = [.init(url: "http://gpu:8188")]
            change(&situation)
            self.situation = situation
            self.reason = reason
            self.says = says
        }
    }

    private static func node(_ seconds: Double, step: Int? = nil) -> JobSituation.Node {
        .init(id: "3", classType: "KSampler", title: "Sampler", running: .seconds(seconds), step: step, steps: step.map { _ in 20 })
    }

    /// The job is inside the ComfyUI.
    private static func inside(_ situation: inout JobSituation, running: Duration? = nil, node: JobSituation.Node? = nil, silence: Duration = .zero) {
        situation.owner = 0
        situation.taken = .seconds(1)
        situation.isDelivered = true
        situation.status = running == nil ? .queued : .running
        situation.comfyUIs[0].runs.append(.init(job: me, status: situation.status, running: running, node: node, silence: silence))
    }

    static let cases = [
        Case("waits behind others", .queued, says: ["behind 2 others", "http://gpu:8188 runs job \(other) for 1 min 5 s at node 3 (KSampler \"Sampler\") for 4.0 s, step 7 of 20"]) {
            $0.queuePosition = 2
            $0.comfyUIs[0].runs = [.init(job: other, status: .running, running: .seconds(65), node: node(4, step: 7))]
        },
        Case("waits behind one", .queued, says: ["behind 1 other."]) { $0.queuePosition = 1 },
        Case("is the next", .queued, says: ["the next in the queue."]) { $0.queuePosition = 0 },
        Case("no ComfyUI", .comfyUIUnreachable, says: ["ComfyUI cannot be used: http://gpu:8188 for 12.3 s (connection refused)"]) {
            $0.queuePosition = 0
            $0.comfyUIs[0].away = .init(time: .milliseconds(12_300), reason: "connection refused")
        },
        Case("none of several", .comfyUIUnreachable, says: ["No ComfyUI can be used", "http://b for 2 h 1 min (gone)"]) {
            $0.queuePosition = 3
            $0.comfyUIs = [.init(url: "http://a", away: .init(time: .seconds(1), reason: "gone")), .init(url: "http://b", away: .init(time: .seconds(7265), reason: "gone"))]
        },
        Case("rests after a fault", .comfyUIUnreachable, says: ["http://gpu:8188 (its device has failed)"]) {
            $0.queuePosition = 0
            $0.comfyUIs[0].away = .init(reason: "its device has failed", isDisconnected: false)
        },
        Case("is the one that is tried after a fault", .running, says: ["running for 1.0 s"]) {
            inside(&$0, running: .seconds(1))
            $0.comfyUIs[0].away = .init(reason: "its device has failed", isDisconnected: false)
        },
        Case("one of several is there", .queued, says: ["behind 3 others"]) {
            $0.queuePosition = 3
            $0.comfyUIs = [.init(url: "http://a", away: .init(time: .seconds(1), reason: "gone")), .init(url: "http://b")]
        },
        Case("the one that has its nodes is away", .comfyUIUnreachable, says: ["No ComfyUI that has the job's nodes can be used: http://a for 1.0 s (gone)."]) {
            $0.queuePosition = 0
            $0.comfyUIs = [.init(url: "http://a", away: .init(time: .seconds(1), reason: "gone")), .init(url: "http://b", canRun: false)]
        },
        Case("between queue and ComfyUI", .handingOver, says: ["on its way"]) { _ in },
        Case("being handed over", .handingOver, says: ["being handed to http://gpu:8188 for 1.0 s"]) {
            inside(&$0)
            $0.isDelivered = false
        },
        Case("ComfyUI is busy with another job of ours", .comfyUIBusy, says: ["busy with job \(other) for 8.0 s at node 3"]) {
            inside(&$0, silence: .seconds(100))
            $0.comfyUIs[0].runs.append(.init(job: other, status: .running, running: .seconds(8), node: node(2)))
        },
        Case("ComfyUI is busy with a known stranger", .comfyUIBusy, says: ["runs the prompt 4711-a, not one of the bridge's, for 1 min 5 s or longer"]) {
            inside(&$0, silence: .seconds(100))
            $0.behind = ("4711-a", .seconds(65))
        },
        Case("ComfyUI is busy with a stranger", .comfyUIBusy, says: ["what others gave it"]) { inside(&$0) },
        Case("runs", .running, says: ["running for 30.0 s at node 3 (KSampler \"Sampler\") for 2.5 s, step 4 of 20, on http://gpu:8188"]) {
            inside(&$0, running: .seconds(30), node: node(2.5, step: 4), silence: .seconds(1))
        },
        Case("runs and nothing is known of nodes", .running, says: ["running for 0.0 s, on"]) { inside(&$0, running: .zero) },
        Case("is silent", .silent, says: ["no message about the job for 11.0 s", "at node 3", "are asked"]) {
            inside(&$0, running: .seconds(30), node: node(11), silence: .seconds(11))
        },
        Case("waits silently", .silent, says: ["it was waiting inside ComfyUI"]) { inside(&$0, silence: .seconds(10)) },
        Case("out of sight", .connectionLost, says: ["cannot be reached for 3.0 s: reset by peer"]) {
            inside(&$0, running: .seconds(30), silence: .seconds(20))
            $0.comfyUIs[0].away = .init(time: .seconds(3), reason: "reset by peer")
        },
        Case("fetches outputs", .fetchingOutputs, says: ["through with the job for 0.4 s", "1 so far"]) {
            inside(&$0, running: .seconds(30))
            $0.executed = .milliseconds(400)
            $0.outputs = 1
        },
        Case("canceling in ComfyUI", .canceling, says: ["taken out of http://gpu:8188"]) {
            inside(&$0, running: .seconds(30))
            $0.status = .canceling
        },
        Case("canceling out of sight", .canceling, says: ["cannot be reached for that: gone"]) {
            inside(&$0, running: .seconds(30))
            $0.status = .canceling
            $0.comfyUIs[0].away = .init(time: .seconds(3), reason: "gone")
        },
        Case("run again, waiting", .retrying, says: ["next in the queue", "went back into the queue once, the last time because: ComfyUI lost the job"]) {
            $0.queuePosition = 0
            ($0.returns, $0.returnReason) = (1, "ComfyUI lost the job.")
        },
        Case("run again, running", .running, says: ["running for 2.0 s", "went back into the queue 2 times."]) {
            inside(&$0, running: .seconds(2))
            $0.returns = 2
        },
        Case("succeeded", .succeeded, says: ["succeeded after 1 min 40 s of execution, with 2 outputs."]) {
            $0.status = .succeeded
            ($0.execution, $0.outputs) = (.seconds(100), 2)
        },
        Case("failed", .failed, says: ["The job failed. KSampler (node '3') failed: no"]) {
            $0.status = .failed
            $0.error = JobError(code: .nodeExecutionError, message: "KSampler (node '3') failed: no", node: "3", classType: "KSampler")
        },
        Case("canceled", .canceled, says: ["The job was canceled."]) {
            $0.status = .canceled
            $0.error = .canceledByCaller
        },
        Case("expired", .expired, says: ["expired"]) { $0.status = .expired },
    ]

    @Test(arguments: cases)
    func saysWhatItWaitsFor(_ example: Case) {
        let why = Why(example.situation)
        #expect(why.reason == example.reason)
        for part in example.says { #expect(why.message.contains(part), "\(why.message)") }
        #expect(why.message.hasSuffix("."), "\(why.message)")
    }

    @Test func everyReasonHasACase() {
        #expect(Set(Self.cases.map(\.reason)) == Set(Why.Reason.allCases))
    }

    @Test func theFiguresAreThere() throws {
        let running = try #require(Self.cases.first { $0.testDescription == "runs" })
        let answer = Why(running.situation).representation(of: Self.me)
        #expect(answer["job_id"]?.string == Self.me.description)
        #expect(answer["reason"] == "running")
        let details = try #require(answer["details"])
        #expect(details["running_s"] == 30)
        #expect(details["node"] == ["node_id": "3", "class_type": "KSampler", "title": "Sampler", "running_s": 2.5, "step": 4, "steps": 20])
        #expect(details["comfyui"]?[0]?["jobs"]?[0]?["id"]?.string == Self.me.description)
        let failed = try #require(Self.cases.first { $0.testDescription == "failed" })
        #expect(Why(failed.situation).details["code"] == "node_execution_error")
        #expect(Why(failed.situation).details["node_id"] == "3")
    }

    @Test(arguments: [(0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 min"), (-5, "0.0 s")] as [(Double, String)])
    func tellsTimes(_ seconds: Double, _ words: String) {
        #expect(Duration.seconds(seconds).words == words)
    }
}
