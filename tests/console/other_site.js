// What a page of another site tries with a console in the same browser.
async ([url, agent]) => {
    const tried = async (work) => { try { return await work() } catch (error) { return 'refused' } }
    const options = {credentials: 'include'}
    const read = await tried(async () => (await fetch(url + '/api/overview', options)).text())
    const post = (extra) => tried(async () => (await fetch(`${url}/api/agents/${agent}/order`, {
        method: 'POST', body: JSON.stringify({what: 'dispose'}), ...options, ...extra})).status)
    const blind = await post({mode: 'no-cors', headers: {'Content-Type': 'text/plain'}})
    const open = await post({headers: {'Content-Type': 'application/json'}})
    const frame = document.createElement('iframe')
    frame.src = url
    const framed = await new Promise((done) => { frame.onload = () => done(true); document.body.append(frame) })
    let inside = ''
    try { inside = frame.contentDocument.body.textContent } catch (error) { inside = 'refused' }
    const script = document.createElement('script')
    script.src = url + '/api/overview'
    const loaded = await new Promise((done) => { script.onload = () => done(true); script.onerror = () => done(false); document.body.append(script) })
    const stream = await new Promise((done) => { const s = new EventSource(url + '/api/events', {withCredentials: true}); s.onopen = () => done(true); s.onerror = () => done(false) })
    return {read, blind, open, inside, loaded, stream}
}
