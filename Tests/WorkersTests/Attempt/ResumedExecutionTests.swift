import ComfyUI
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers
@testable import Workflow

/// A run that is followed further from what was told of it: by the bridge after this one, or when ComfyUI was given up in vain.
@Suite struct ResumedExecutionTests {
    /// A prompt's messages as its client got them.
    private func messages(of prompt: RecordedTraffic.Prompt, in traffic: RecordedTraffic) throws -> [ComfyMessage] {
        try traffic.lines.compactMap { line in
            guard line.milliseconds >= prompt.postedAt, line.event["ev"] == "ws_recv", let text = line.event["text"]?.string else { return nil }
            let message = try ComfyMessage(parsing: text)
            return message.promptID == prompt.id ? message : nil
        }
    }

    @Test("Wherever a bridge ends in a run, the next one tells nothing twice, and no number falls", arguments: [
        "txt2img_ksampler", "success_previews_metadata", "cached_partial", "subgraph_expansion", "several_outputs_batch", "node_exception", "async_nodes",
    ])
    func everyCut(_ name: String) throws {
        let traffic = try RecordedTraffic(name)
        for prompt in traffic.prompts where prompt.clientID != nil {
            let workflow = try Workflow(checking: prompt.graph)
            let messages = try messages(of: prompt, in: traffic)
            for cut in messages.indices {
                var before = Replay(execution: Execution(workflow: workflow, outputNodes: []))
                for message in messages[..<cut] { before.perform(before.execution.received(message)) }
                let told = Job.Told(nodes: before.nodes, progress: before.progress.last)
                var after = Replay(execution: Execution(workflow: workflow, outputNodes: [], told: told))
                after.execution.lostTouch()
                if cut > 0 { after.perform(after.execution.reconciled(.running)) }
                for message in messages[cut...] { after.perform(after.execution.received(message)) }
                if let history = traffic.history(of: prompt) {
                    after.perform(after.execution.reconciled(Reconciliation(of: prompt.id, queue: .empty, history: history)))
                }
                let progress = before.progress + after.progress
                #expect(zip(progress, progress.dropFirst()).allSatisfy { $0.value <= $1.value && $0.nodesDone <= $1.nodesDone }, "\(name), cut at \(cut)")
                let nodes = (before.nodes + after.nodes).map { "\($0.node) \($0.state)" }
                #expect(Set(nodes).count == nodes.count, "\(name), cut at \(cut): \(nodes)")
            }
        }
    }

    @Test func whatWasDoneCountsAtOnce() throws {
        let workflow = try Workflow(checking: Graph.sampler(steps: 20))
        func event(_ node: String, _ state: NodeEvent.State) -> NodeEvent {
            NodeEvent(node: node, displayNode: node, classType: workflow.nodes[node]?.classType, title: nil, state: state)
        }
        let told = Job.Told(
            nodes: [event("4", .running), event("4", .finished), event("5", .cached), event("6", .running), event("6", .finished), event("3", .running)],
            progress: JobProgress(value: 0.4, nodesDone: 3, nodesTotal: 6, currentNode: "3", step: 6, steps: 20))
        var replay = Replay(execution: Execution(workflow: workflow, outputNodes: ["9"], told: told))
        replay.execution.lostTouch()
        replay.perform(replay.execution.reconciled(.running))
        // It is known already.
        replay.perform(replay.execution.received(.executing(promptID: "p", node: "3", displayNode: "3")))
        replay.perform(replay.execution.received(.executingBare(node: "3")))
        #expect(replay.nodes.isEmpty && replay.progress.isEmpty)
        replay.perform(replay.execution.received(.progress(promptID: "p", node: "3", value: 7, maximum: 20)))
        #expect(replay.progress.map(\.nodesDone) == [3])
        #expect(replay.progress.map(\.step) == [7])
        #expect(replay.progress[0].value >= 0.4)
    }

    @Test func aRunThatBeginsAnewTellsItsNodesAgainAndNoNumberFalls() throws {
        let workflow = try Workflow(checking: Graph.sampler(steps: 20))
        let told = Job.Told(progress: JobProgress(value: 0.9, nodesDone: 4, nodesTotal: 6, currentNode: "8"))
        var replay = Replay(execution: Execution(workflow: workflow, outputNodes: ["9"], told: told))
        replay.perform(replay.execution.received(.executionStart(promptID: "p", timestamp: nil)))
        replay.perform(replay.execution.received(.executing(promptID: "p", node: "4", displayNode: "4")))
        #expect(replay.nodes.map(\.node) == ["4"])
        #expect(replay.progress.map(\.value) == [0.9] && replay.progress.map(\.nodesDone) == [4] && replay.progress.map(\.currentNode) == ["4"])
    }

    @Test func whatBelongsToTheRunIsKnownAfterItsReturnToTheQueue() throws {
        let job = Job(submission: Submission(workflow: try Workflow(checking: Graph.picture()), outputNodes: []))
        let node = NodeEvent(node: "1", displayNode: "1", classType: "EmptyImage", title: nil, state: .running)
        job.publish(.node(node))
        job.publish(.progress(JobProgress(value: 0.5, nodesDone: 1, nodesTotal: 2)))
        #expect(job.told.nodes == [node])
        job.endAttempt { $0.count(.lost(.killed), on: "http://a") }
        job.returned()
        #expect(job.told.nodes.isEmpty && job.told.progress?.value == 0.5)
        // It was not lost after all.
        job.resumed()
        #expect(job.told.nodes == [node])
        job.returned()
        job.publish(.node(node))
        #expect(job.told.nodes == [node])
        // It survives being written down.
        let record = try #require(job.attempts.record)
        #expect(Attempts(record: record) == job.attempts)
    }
}
