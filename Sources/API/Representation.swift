import FoundationEssentials
package import Jobs
import OrderedCollections
package import OrderedJSON
import Wording

/// The JSON shapes of the Comfy API v2 and what the bridge adds to them; openapi.yaml describes each.
package struct Representation: Sendable {
    let links: Links
    /// How long a job is kept after its end.
    package let retention: Duration

    /// With links that are signed now.
    func renewed() -> Representation { Representation(links: links.renewed(), retention: retention) }

    package func job(_ job: Job) -> JSONObject {
        let snapshot = job.snapshot
        return self.job(job, snapshot, outputs: snapshot.outputs.inGraphOrder.map { .object(output($0)) })
    }

    /// Outputs of an item of the list, and bytes of each of its parts that may be large.
    private static let listedOutputs = 16
    private static let listedBytes = 2048

    /// As an item of the list, with the times under the names that the official SDK reads there. A page has hundreds: what is large of a job is
    /// left out or cut, and `abridged` says so.
    func listed(_ job: Job) -> JSONObject {
        var snapshot = job.snapshot
        var isAbridged = false
        func fits(_ value: JSON) -> Bool {
            guard value.isLonger(than: Self.listedBytes) else { return true }
            isAbridged = true
            return false
        }
        if snapshot.outputs.count > Self.listedOutputs {
            snapshot.outputs = OutputList(snapshot.outputs.inGraphOrder.prefix(Self.listedOutputs))
            isAbridged = true
        }
        if !fits(.object(snapshot.otherOutputs)) { snapshot.otherOutputs = [:] }
        if let error = snapshot.error, !fits(self.error(error)) {
            snapshot.error = JobError(code: error.code, message: error.message.excerpt(Self.listedBytes / 2), node: error.node, classType: error.classType)
        }
        let outputs = snapshot.outputs.inGraphOrder.map { listed($0, &isAbridged) }
        var members = self.job(job, snapshot, outputs: outputs)
        if let metadata = members["metadata"], !fits(metadata) { members["metadata"] = .null }
        if isAbridged { members["abridged"] = true }
        members["create_time"] = date(job.createdAt)
        members["update_time"] = date(snapshot.statusChangedAt)
        return members
    }

    private func listed(_ output: Output, _ isAbridged: inout Bool) -> JSON {
        var members = self.output(output)
        if let text = members["text"]?.string, text.utf8.count > Self.listedBytes {
            members["text"] = .string(text.excerpt(Self.listedBytes))
            isAbridged = true
        }
        return .object(members)
    }

    private func job(_ job: Job, _ snapshot: Job.Snapshot, outputs: [JSON]) -> JSONObject {
        let expires = (snapshot.completedAt ?? Date()).addingTimeInterval(retention.seconds)
        return [
            "id": .string(job.id.description),
            "status": .string(snapshot.status.rawValue),
            "priority": JSON(job.priority),
            "created_at": date(job.createdAt),
            "started_at": snapshot.startedAt.map(date) ?? .null,
            "completed_at": snapshot.completedAt.map(date) ?? .null,
            "expires_at": date(expires),
            "queue_position": .optional(snapshot.queuePosition),
            "progress": snapshot.progress.map(progress) ?? .null,
            "outputs": .array(outputs),
            "outputs_reused": .bool(snapshot.hasReusedOutputs),
            "other_outputs": .object(snapshot.otherOutputs),
            "error": snapshot.error.map(error) ?? .null,
            "metrics": [
                "queue_ms": snapshot.queueTime(since: job.createdAt).map { JSON($0.milliseconds) } ?? .null,
                "execution_ms": snapshot.executionTime.map { JSON($0.milliseconds) } ?? .null,
            ],
            "metadata": job.metadata.map(JSON.object) ?? .null,
            "urls": ["self": .string(links.job(job.id)), "events": .string(links.events(job.id)), "cancel": .string(links.cancel(job.id))],
        ]
    }

    package func output(_ output: Output) -> JSONObject {
        var members: JSONObject = [
            "id": .string(output.asset.id),
            "job_id": .optional(output.asset.job?.description),
            "node_id": .string(output.node),
            "name": .string(output.name),
            "type": .string(output.kind.rawValue),
            "content_type": .string(output.contentType),
            "size_bytes": JSON(output.asset.blob.size ?? 0),
            "hash": .optional(output.asset.blob.hash?.description),
            "url": .string(links.content(output.asset)),
            "url_expires_at": date(links.expiry(until: output.asset.createdAt.addingTimeInterval(retention.seconds))),
            "temporary": .bool(output.isTemporary),
        ]
        if case .text(let text) = output.asset.blob.source { members["text"] = .string(text) }
        return members
    }

    package func asset(_ asset: Asset) -> JSONObject {
        let expiry = asset.job == nil ? asset.expiresAt : asset.createdAt.addingTimeInterval(retention.seconds)
        return [
            "id": .string(asset.id),
            "hash": .optional(asset.blob.hash?.description),
            "size_bytes": JSON(asset.blob.size ?? 0),
            "content_type": .string(asset.contentType),
            "file_path": .string(asset.filePath),
            "tags": .array(asset.tags.map(JSON.string)),
            "created_at": date(asset.createdAt),
            "url": .string(links.content(asset)),
            "url_expires_at": date(links.expiry(until: expiry ?? Date().addingTimeInterval(retention.seconds))),
            "expires_at": expiry.map(date) ?? .null,
            "job_id": .optional(asset.job?.description),
        ]
    }

    func progress(_ progress: JobProgress) -> JSON {
        [
            "value": JSON(progress.value), "nodes_done": JSON(progress.nodesDone), "nodes_total": JSON(progress.nodesTotal),
            "current_node": .optional(progress.currentNode), "current_node_class": .optional(progress.currentClass), "step": .optional(progress.step),
            "steps": .optional(progress.steps), "message": .optional(progress.message), "activity": .optional(progress.activity),
        ]
    }

    package func error(_ error: JobError) -> JSON {
        var members: JSONObject = [
            "code": .string(error.code.rawValue), "message": .string(error.message), "node_id": .optional(error.node),
            "class_type": .optional(error.classType), "traceback": .null,
        ]
        if !error.faults.isEmpty { members["details"] = APIError.details(of: error.faults) }
        return .object(members)
    }

    /// The data of an event, on one line.
    package func event(_ event: JobEvent, of job: JobID, previews: PreviewMode) -> (name: String, data: [UInt8])? {
        switch event {
        case .status(let status, let jobError):
            var data: JSONObject = ["status": .string(status.rawValue)]
            if let jobError { data["error"] = error(jobError) }
            return ("status", JSON.object(data).encoded())
        case .queuePosition(let position):
            return ("status", (["status": "queued", "queue_position": JSON(position)] as JSON).encoded())
        case .progress(let snapshot):
            return ("progress", progress(snapshot).encoded())
        case .preview(let preview):
            return preview.data(previews, links: links, job: job).map { ("preview", $0) }
        case .node(let node):
            return ("node", self.node(node).encoded())
        case .output(let output):
            return ("output", JSON.object(self.output(output)).encoded())
        case .log(let entry):
            return ("log", (["level": .string(entry.level.rawValue), "message": .string(entry.message), "node_id": .optional(entry.node)] as JSON).encoded())
        case .comfyui(let raw):
            return ("comfyui", Array(raw.utf8.filter { $0 != 0x0A && $0 != 0x0D }))
        }
    }

    private func node(_ node: NodeEvent) -> JSON {
        var members: JSONObject = ["node_id": .string(node.node), "class_type": .optional(node.classType), "state": .string(node.state.rawValue)]
        if let title = node.title { members["title"] = .string(title) }
        if node.displayNode != node.node { members["display_node_id"] = .string(node.displayNode) }
        return .object(members)
    }

    private func date(_ date: Date) -> JSON {
        .string(date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true)))
    }
}

extension Preview {
    /// The event's data; base64 is appended to bytes directly, since it is most of what the bridge ever sends.
    fileprivate func data(_ mode: PreviewMode, links: Links, job: JobID) -> [UInt8]? {
        let head: JSON = ["node_id": .string(node), "content_type": .string(contentType), "number": JSON(number)]
        switch mode {
        case .none: return nil
        case .url:
            var members = head.object ?? [:]
            members["url"] = .string(links.preview(job, number))
            return JSON.object(members).encoded()
        case .base64:
            var data = head.encoded()
            data.removeLast()
            data.append(contentsOf: #","data_base64":""#.utf8)
            data.append(contentsOf: Data(bytes).base64EncodedData())
            data.append(contentsOf: #""}"#.utf8)
            return data
        }
    }
}
