-- Has Orthanc send CT and MR series to Porta once their study has been quiet for StableAge seconds; again only when a
-- series has grown. Results that come back make the study stable once more, and send nothing. What failed, as while
-- Porta was being restarted, is sent again every LuaHeartBeatPeriod seconds.

local SENT = '1024' -- a metadata of our own: how many instances of the series Porta was sent

function OnStableStudy(studyId, tags, metadata)
  for _, series in pairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
    local modality = series['MainDicomTags']['Modality']
    if modality == 'CT' or modality == 'MR' then
      local place = '/series/' .. series['ID'] .. '/metadata'
      local count = tostring(#series['Instances'])
      if ParseJson(RestApiGet(place .. '?expand'))[SENT] ~= count then
        RestApiPost('/modalities/porta/store', DumpJson({ Resources = { series['ID'] }, Synchronous = false }, false))
        RestApiPut(place .. '/' .. SENT, count)
      end
    end
  end
end

function OnHeartBeat()
  for _, job in pairs(ParseJson(RestApiGet('/jobs?expand'))) do
    if job['State'] == 'Failure' and job['Type'] == 'DicomModalityStore' and job['Content']['RemoteAet'] == 'PORTA' then
      RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
    end
  end
end
