-- Deposits of 1.00 to a thousand accounts in turn, each under a key of its own.
local thread_count = 0
function setup(thread)
  thread:set("thread_id", thread_count)
  thread_count = thread_count + 1
end
local sent = 0
function init(args)
  -- Unlike between runs, so that no key of an earlier window is met again.
  salt = args[1] or tostring(os.time())
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. (os.getenv("ATALAYA_TOKEN") or "")
end
function request()
  sent = sent + 1
  wrk.headers["Idempotency-Key"] = string.format("%s-%d-%d", salt, thread_id, sent)
  local path = string.format("/api/v1/cuentas/%010d/depositos", sent % 1000)
  return wrk.format(nil, path, nil, '{"monto":1.00}')
end
local wrong = 0
function response(status)
  if status ~= 201 then wrong = wrong + 1 end
end
