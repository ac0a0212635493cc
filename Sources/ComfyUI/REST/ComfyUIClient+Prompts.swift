import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON

extension ComfyUIClient {
    /// `POST /prompt`. A receipt may carry `nodeErrors`: outputs that will not run.
    ///
    /// - Throws: `rejected` for 400. After `badAnswer` with status 500, `connectionLost` and `timedOut` the prompt may be queued all the same.
    package func submit(_ prompt: PromptSubmission) async throws(ComfyUIError) -> PromptReceipt {
        let answer = try await answer(to: jsonRequest("/prompt", body: prompt.encoded()))
        if answer.status == 400, !answer.isCut {
            guard let json = try? JSON(parsing: answer.body.readableBytesView, lenient: true), let rejection = PromptRejection(json) else {
                throw ComfyUIError.badAnswer(answer)
            }
            throw ComfyUIError.rejected(rejection)
        }
        guard let receipt = PromptReceipt(try Self.json(answer)) else { throw ComfyUIError.badAnswer(answer) }
        return receipt
    }

    /// `GET /queue`. To find out about a prompt, ask the queue first and the history after it (protocol section 10).
    package func queue() async throws(ComfyUIError) -> QueueSnapshot {
        let answer = try await answer(to: request(.GET, "/queue"))
        guard let snapshot = QueueSnapshot(try Self.json(answer)) else { throw ComfyUIError.badAnswer(answer) }
        return snapshot
    }

    /// `GET /history/{id}`; nil while the prompt waits or runs, and when it is not known.
    package func history(_ promptID: String) async throws(ComfyUIError) -> HistoryEntry? {
        let answer = try await answer(to: request(.GET, "/history/\(ComfyEndpoint.percentEncoded(promptID))"))
        guard let entries = try Self.json(answer).object else { throw ComfyUIError.badAnswer(answer) }
        guard let json = entries[promptID] else { return nil }
        guard let entry = HistoryEntry(promptID: promptID, json) else { throw ComfyUIError.badAnswer(answer) }
        return entry
    }

    /// `POST /interrupt` for this prompt only. ComfyUI does not tell whether it was the running one.
    package func interrupt(promptID: String) async throws(ComfyUIError) {
        try await acknowledged(jsonRequest("/interrupt", body: (["prompt_id": .string(promptID)] as JSON).encoded()))
    }

    /// `POST /api/jobs/{id}/cancel`: takes the prompt out of the queue or interrupts it, in one step, so that the interrupt can't hit the next one.
    ///
    /// - Returns: whether it waited or ran. It may go on running all the same: a node that never looks whether it is interrupted finishes first. Nil
    ///   where there is no such route (before 0.33), or something in front of ComfyUI does not let it pass.
    package func cancel(promptID: String) async throws(ComfyUIError) -> Bool? {
        let answer = try await answer(to: jsonRequest("/api/jobs/\(ComfyEndpoint.percentEncoded(promptID))/cancel", body: Array("{}".utf8)))
        guard answer.status == 200 else {
            if (400..<500).contains(answer.status) || answer.status == 501 { return nil }
            throw ComfyUIError(answer)
        }
        return (try? Self.json(answer))?["cancelled"]?.bool
    }

    /// `POST /queue` with `delete`: drops waiting prompts. Running and unknown ones are left alone without a word.
    package func deleteQueued(_ promptIDs: [String]) async throws(ComfyUIError) {
        try await acknowledged(jsonRequest("/queue", body: (["delete": .array(promptIDs.map(JSON.string))] as JSON).encoded()))
    }

    /// `POST /history` with `delete`: forgets finished prompts; their files stay.
    package func deleteHistory(_ promptIDs: [String]) async throws(ComfyUIError) {
        try await acknowledged(jsonRequest("/history", body: (["delete": .array(promptIDs.map(JSON.string))] as JSON).encoded()))
    }
}
