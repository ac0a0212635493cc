import Jobs

/// Answers by route, method and status. The labels are those of the routes, whatever callers ask for.
package struct RequestCounts: Sendable {
    package struct Reading: Sendable {
        package let method: String
        let route: String
        /// As text; `other` for one that no endpoint is known to give.
        let status: String
        package let count: Int
    }

    private struct Key: Hashable {
        package let method: String
        let route: String
    }

    private static let statuses = [
        200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 416, 422, 429, 431, 499, 500, 502, 503, 504, 507,
    ]
    private static let index = Dictionary(uniqueKeysWithValues: statuses.enumerated().map { ($1, $0) })
    /// Stands for paths that are none, and for methods that are not asked for.
    private static let other = "other"
    private static let methods: Set<String> = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

    private let rows: [Key: [Counter]]

    init(routes: [(method: String, path: String)]) {
        let others = (Self.methods.union([Self.other])).map { Key(method: $0, route: Self.other) }
        let keys = Set(routes.map { Key(method: $0.method, route: $0.path) } + others)
        rows = Dictionary(uniqueKeysWithValues: keys.map { ($0, (0...Self.statuses.count).map { _ in Counter() }) })
    }

    /// - Parameter route: the path as the route has it; nil when there is none for the request.
    package func count(method: String, route: String?, status: Int) {
        let key = Key(method: Self.methods.contains(method) ? method : Self.other, route: route ?? Self.other)
        rows[key]?[Self.index[status] ?? Self.statuses.count].add()
    }

    /// Of everything that was asked for at least once, in a constant order.
    var readings: [Reading] {
        rows.sorted { ($0.key.route, $0.key.method) < ($1.key.route, $1.key.method) }.flatMap { key, counters in
            counters.enumerated().compactMap { index, counter in
                guard counter.value > 0 else { return nil }
                let status = index < Self.statuses.count ? String(Self.statuses[index]) : Self.other
                return Reading(method: key.method, route: key.route, status: status, count: counter.value)
            }
        }
    }
}
