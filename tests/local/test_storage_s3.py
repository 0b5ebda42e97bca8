import time
import pytest
from tests.s3 import S3
pytestmark=pytest.mark.local
def test_x(s3: S3):
    from trainer_app.storage import open_store
    st=open_store(s3.uri)
    t=time.time(); st.put("a",b"1"); print("put",time.time()-t)
    import subprocess; print(subprocess.run(["du","-sh",str(s3.server.folder)],capture_output=True,text=True).stdout)
def test_many(s3_server):
    for i in range(3):
        t=time.time(); b=s3_server.new_bucket(); s3_server.client().put_object(Bucket=b,Key="a/b",Body=b"x"); print(time.time()-t)
